package seedtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Today is when northgate's history ends.
var Today = time.Date(2026, 11, 24, 12, 40, 0, 0, time.UTC)

const policies = `version: 1
policies:
  no-hardcoded-secrets:
    focus: security
    action: block
    severity_minimum: high
    message: "Keys live in the vault. Ask #platform-help for a path."
  known-vulnerabilities:
    focus: dependencies
    types: ["deps/known-vulnerability"]
    action: block
    severity_minimum: high
  dependency-freshness:
    types: ["deps/stale"]
    action: warn
    scope: all
  tenant-isolation:
    focus: security-review
    action: warn
  doc-freshness:
    focus: documentation
    action: report
  test-coverage:
    focus: coverage
    action: block
`

// Northgate is an organisation of 26 repositories with three months of history: critical ones, healthy ones, one that
// was never audited, pull requests that are blocked, clean, stale and not judged yet, and a signed ledger.
func Northgate(t testing.TB, dsn string) *World {
	t.Helper()
	ago := func(days, hours int) time.Time {
		return Today.Add(-time.Duration(days)*24*time.Hour - time.Duration(hours)*time.Hour)
	}
	w := New(t, dsn, "northgate", 8841, ago(92, 0))
	mark := func(code, severity, kind, title string) string {
		return code + Mark + severity + " " + kind + " " + title + "\n"
	}
	stripe := mark(`    "sk_live_51Hx••••••••••••••••••••••",`, "high", "secrets/stripe-secret-key", "Stripe secret key in source")
	aws := mark(`access_key = "AKIA••••••••••••7Q2M"`, "high", "secrets/aws-access-key", "AWS access key in a Terraform variable file")
	live := mark(`STRIPE_KEY=sk_live_••••••••`, "critical", "secrets/stripe-secret-key", "Live Stripe key in an environment file")
	pem := mark(`-----BEGIN PRIVATE KEY----- ••••`, "critical", "secrets/private-key", "Private key in a fixture")
	vulnerable := func(n int, severity string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(mark(fmt.Sprintf("example.org/lib%d v1.%d.0", i, i), severity, "deps/known-vulnerability", fmt.Sprintf("Known vulnerability in lib%d", i)))
		}
		return b.String()
	}
	stale := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(mark(fmt.Sprintf("example.org/old%d v0.%d.0", i, i), []string{"medium", "low"}[i%2], "deps/stale", fmt.Sprintf("Dependency old%d is two majors behind", i)))
		}
		return b.String()
	}
	docs := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(mark(fmt.Sprintf("GET /v1/things/%d", i), "low", "docs/endpoint", fmt.Sprintf("Endpoint %d missing from the contract", i)))
		}
		return b.String()
	}
	all := map[string]*Repo{}
	repo := func(name string, at time.Time, files gittest.Files) *Repo {
		w.At(at)
		r := w.Repo(name)
		all[name] = r
		files[".noxaudit/policies.yml"] = policies
		files["main.go"] = "package main\n"
		for path, body := range files {
			files[path] = "# " + path + "\n" + body
		}
		r.Push(files)
		return r
	}

	payments := repo("payments-api", ago(88, 0), gittest.Files{"go.deps": vulnerable(3, "high") + stale(9), "docs/api.md": docs(6)})
	vault := repo("card-vault", ago(87, 3), gittest.Files{"deps": stale(7), "testdata/key.pem": pem})
	identity := repo("identity-gateway", ago(86, 1), gittest.Files{"deps": vulnerable(4, "high") + stale(4)})
	terraform := repo("infra-terraform", ago(85, 2), gittest.Files{"deps": stale(5), "env/staging.tfvars": "region = \"eu-north-1\"\n" + aws + "bucket = \"northgate-staging\"\n"})
	features := repo("feature-store", ago(84, 4), gittest.Files{"deps": vulnerable(5, "high") + vulnerable(3, "medium") + stale(12)})
	checkout := repo("web-checkout", ago(80, 0), gittest.Files{"deps": vulnerable(2, "high") + stale(6), "docs/api.md": docs(3)})
	for i, n := range []string{"treasury-fx", "mobile-bff", "ledger-export", "risk-scoring", "fraud-rules", "statement-pdf", "notification-hub", "customer-portal",
		"support-tools", "design-tokens", "build-images", "rate-limiter", "audit-trail", "edge-proxy", "batch-runner", "schema-registry", "dev-environment"} {
		repo(n, ago(78-i, i), gittest.Files{"deps": stale(i*5%13) + vulnerable(i%3, []string{"medium", "high", "low"}[i%3]), "docs/api.md": docs(i * 7 % 9)})
	}
	w.At(ago(40, 0))
	w.Repo("legacy-soap-bridge")
	w.Repo("research-notebooks")

	people := []waiver.Person{{ID: 501, Login: "jlindqvist"}, {ID: 502, Login: "ines-k"}, {ID: 503, Login: "h-brandt"}, {ID: 504, Login: "lene-d"}}
	okafor, tomasz := waiver.Person{ID: 601, Login: "r-okafor"}, waiver.Person{ID: 602, Login: "tomasz-w"}

	w.At(ago(84, 0))
	staging := terraform.Waive(terraform.Finding("default", "secrets/aws-access-key", 0), Ask{By: people[2], Kind: waiver.AcceptedRisk, Days: 60, Approvals: 2,
		Reason: "Staging only, rotates with the account move on 22 October"})
	w.At(ago(83, 23))
	w.Refuse(staging, people[2], "Who asks for a waiver cannot approve it. It needs 2 people with maintain or admin permission.")
	w.At(ago(83, 4))
	staging = w.Act(staging, waiver.Approve{Digest: staging.Digest[7:15]}, okafor, "waiver.approved", "")
	w.At(ago(83, 2))
	staging = w.Act(staging, waiver.Approve{Digest: staging.Digest[7:15]}, tomasz, "waiver.approved", "")

	w.At(ago(60, 0))
	features.Push(gittest.Files{"deps": vulnerable(5, "high") + stale(8)})
	w.At(ago(52, 5))
	payments.Push(gittest.Files{"go.deps": vulnerable(1, "high") + stale(9)})
	w.At(ago(33, 2))
	terraform.Push(gittest.Files{"env/staging.tfvars": "region = \"eu-north-1\"\nrole = \"deployer\"\nbucket = \"northgate-staging\"\n"})
	w.Act(staging, waiver.Resolve{}, waiver.Person{}, "waiver.resolved", "The finding is gone")
	w.At(ago(30, 1))
	identity.Push(gittest.Files{"deps": vulnerable(2, "high") + stale(3)})
	w.At(ago(12, 0))
	checkout.Push(gittest.Files{"deps": stale(4)})
	w.At(ago(9, 3))
	terraform.Push(gittest.Files{"prod.pem": pem})
	w.At(ago(0, 6))
	payments.Push(gittest.Files{"config/prod.env": "MODE=prod\n" + live})

	vaultClient := Pull{Number: 1482, Title: "Move card tokenisation to the vault client", Author: "jlindqvist", Branch: "vault-client"}
	w.At(ago(1, 21))
	payments.PullRequest(vaultClient, gittest.Files{"internal/vault/client.go": "package vault\n"})
	w.At(ago(0, 1))
	payments.PullRequest(vaultClient, gittest.Files{
		"internal/vault/client.go": "package vault\n\nfunc New() {\n  c := stripe.NewClient(\n" + stripe + "  )\n}\n",
		"api/tokens.go":            "package api\n" + mark("tok, err := h.store.Token(ctx, id)", "medium", "model/missing-tenant", "Handler reads a token without checking the tenant"),
	})
	w.At(ago(0, 3))
	payments.PullRequest(Pull{Number: 1480, Title: "Retry card authorisations with a budget", Author: "ines-k", Branch: "retry-budget"}, gittest.Files{"retry.go": "package main\n"})
	stalePull := Pull{Number: 1479, Title: "Split settlement into two passes", Author: "tomasz-w", Branch: "two-pass", HeadRepo: 777}
	w.At(ago(0, 4))
	payments.PullRequest(stalePull, gittest.Files{"settle.go": "package main\n"})
	w.At(ago(0, 2))
	payments.Open(stalePull, gittest.Files{"settle.go": "package main // second pass\n"})
	payments.Open(Pull{Number: 1483, Title: "Describe the refund endpoint", Author: "h-brandt", Branch: "refund-docs", Draft: true}, gittest.Files{"docs/refund.md": "# Refunds\n"})
	w.At(ago(0, 5))
	vault.PullRequest(Pull{Number: 77, Title: "Rotate the test key", Author: "lene-d", Branch: "rotate"}, gittest.Files{"testdata/key.pem": "none\n"})

	n := 0
	for i, r := range []string{"treasury-fx", "mobile-bff", "ledger-export", "risk-scoring", "fraud-rules", "statement-pdf", "notification-hub", "customer-portal", "audit-trail", "edge-proxy", "batch-runner", "schema-registry"} {
		for _, kind := range []string{"deps/stale", "docs/endpoint"} {
			fs, err := w.Store.For(w.Account).OpenFindings(t.Context(), all[r].ID, "default")
			check(t, err)
			if !slices.ContainsFunc(fs, func(f finding.Finding) bool { return f.Type == kind }) {
				continue
			}
			n++
			w.At(ago(20-i, n))
			x := all[r].Waive(all[r].Finding("default", kind, 0), Ask{By: people[n%4], Kind: waiver.Kinds()[n%5], Days: 20 + (n*7)%40 + i/2, Reason: []string{
				"Isolated network, replaced with the next release of the client", "Only the fixture of a test asks for it", "The internal mirror has the fix already", "Moves with the next quarter's upgrade"}[n%4]})
			w.Now = w.Now.Add(2 * time.Hour)
			x = w.Act(x, waiver.Approve{Digest: x.Digest[7:15]}, okafor, "waiver.approved", "")
			w.Now = w.Now.Add(20 * time.Hour)
			switch n % 9 {
			case 3:
				w.Act(x, waiver.Revoke{Reason: "The upgrade came earlier than we thought"}, tomasz, "waiver.revoked", "The upgrade came earlier than we thought")
			}
		}
	}
	w.At(Today.Add(-50 * time.Hour))
	features.Waive(features.Finding("default", "deps/known-vulnerability", 1), Ask{By: people[1], Kind: waiver.Deferred, Days: 30, Reason: "The fixed version needs Go 1.27, planned for sprint 48"})
	w.At(Today.Add(-30 * time.Hour))
	x := payments.Waive(payments.Finding("default", "deps/known-vulnerability", 0), Ask{By: people[2], Kind: waiver.Mitigated, Days: 21, Pull: 1480, Reason: "The vulnerable function is not reachable from the API"})
	x = w.Act(x, waiver.Approve{Digest: x.Digest[7:15]}, okafor, "waiver.approved", "")
	w.Now = w.Now.Add(time.Hour)
	w.Act(x, waiver.Suspend{Cause: waiver.Edited, Surface: waiver.Comment, Comment: x.Approvals[0].Place.Comment, At: w.Now}, waiver.Person{}, "waiver.suspended", "")
	w.Sequence()
	w.At(Today.Add(-8 * time.Minute))
	key := payments.Waive(payments.Finding("pull/1482", "secrets/stripe-secret-key", 1), Ask{By: people[0], Kind: waiver.AcceptedRisk, Days: 14, Approvals: 2, Pull: 1482, Reason: "Key is revoked, history rewrite is planned for Monday"})
	w.At(Today.Add(-4 * time.Minute))
	w.Act(key, waiver.Approve{Digest: key.Digest[7:15]}, tomasz, "waiver.approved", "")

	w.At(Today)
	w.Sequence()
	w.At(Today.Add(-3 * time.Minute))
	return w
}
