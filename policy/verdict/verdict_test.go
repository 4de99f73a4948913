package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
)

// sample is a verdict that uses every member.
func sample(t testing.TB) Verdict {
	t.Helper()
	head, err := name.ParseCommit(strings.Repeat("a", 40))
	if err != nil {
		t.Fatal(err)
	}
	base, err := name.ParseCommit(strings.Repeat("b", 64))
	if err != nil {
		t.Fatal(err)
	}
	digest := canon.Digest([]byte("x"))
	fingerprint := strings.Repeat("0f", 32)
	ref := Ref{
		ID: finding.ID(fingerprint), Fingerprint: fingerprint, Content: "c1", Type: "secrets/a", Severity: finding.High,
		Path: "src/<a>.go", Line: 3, Introduced: true, Reason: "confidence 0.1 is below 0.9",
	}
	gap := Gap{Auditor: "secrets", Path: "big", Reason: "larger than 5 MiB", Introduced: true}
	return Verdict{
		Schema:     SchemaName,
		Conclusion: Blocked,
		Subject: Subject{
			Account: "583231", Repository: Repository{"1", "octo-org/payments"}, Head: head, Base: base,
			Tree: strings.Repeat("c", 40), Context: PullRequest, Pull: 7,
		},
		Inputs: Inputs{digest, digest, digest, digest, "2026-03-04T05:06:07.891234Z", "1.2.3"},
		Policies: []Result{{
			Name: "no-secrets", Action: Block, Outcome: OutcomeBlocked, Effect: EffectBlock, Reason: "1 introduced finding blocks.",
			Description: "why", Message: "what", Rule: "rule", Origin: Origin{"repository", ".noxaudit/policies.yml", digest, 3},
			DecidedBy: []string{"secrets"}, Blocking: []Ref{ref}, Warning: []Ref{ref}, Gaps: []Gap{gap},
			Counts: Tally{Matched: 2, Introduced: 2, BelowConfidence: 1, Blocking: 1, Warning: 1, Gaps: 1},
		}},
		Counts:      Counts{Findings: BySeverity{High: 2}, Introduced: BySeverity{High: 2}, NotAssessed: 1},
		NotAssessed: []Gap{gap},
	}
}

func canonical(t testing.TB, v Verdict) []byte {
	t.Helper()
	b, err := v.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVerdictIsReadBackAsWritten(t *testing.T) {
	b := canonical(t, sample(t))
	v, err := ParseCanonical(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := canonical(t, v); !bytes.Equal(b, again) {
		t.Errorf("%s\n%s", b, again)
	}
}

func TestNoListAndEmptyListAreOneVerdict(t *testing.T) {
	v := sample(t)
	v.Conclusion, v.Policies, v.NotAssessed = Pass, nil, nil
	w := v
	w.Policies, w.NotAssessed = []Result{}, []Gap{}
	if a, b := canonical(t, v), canonical(t, w); !bytes.Equal(a, b) || !bytes.Contains(a, []byte(`"policies":[]`)) {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestOtherBytesThanTheCanonicalOnesAreRefused(t *testing.T) {
	whole := string(canonical(t, sample(t)))
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(whole, old) {
			t.Fatalf("%s is not in %s", old, whole)
		}
		return strings.Replace(whole, old, new, 1)
	}
	for name, s := range map[string]string{
		"nothing":                  "",
		"null":                     "null",
		"an empty object":          "{}",
		"white space before":       " " + whole,
		"a newline after":          whole + "\n",
		"two verdicts":             whole + whole,
		"an unknown member":        change(`{"schema"`, `{"x":1,"schema"`),
		"a member twice":           change(`"conclusion":"block"`, `"conclusion":"block","conclusion":"block"`),
		"a member in capitals":     change(`"conclusion"`, `"Conclusion"`),
		"another order":            change(`"action":"block","outcome":"blocked"`, `"outcome":"blocked","action":"block"`),
		"an escaped letter":        change("octo-org", `\u006fcto-org`),
		"an escaped angle":         change("<a>", `\u003ca>`),
		"another schema":           change("verdict/1", "verdict/2"),
		"a lying conclusion":       change(`"conclusion":"block"`, `"conclusion":"pass"`),
		"a third conclusion":       change(`"conclusion":"block"`, `"conclusion":"skip"`),
		"a short head":             change(strings.Repeat("a", 40), "abc"),
		"no tree":                  change(strings.Repeat("c", 40), ""),
		"an unknown context":       change(`"pull_request"`, `"cron"`),
		"a pull request elsewhere": change(`"pull_request"`, `"push"`),
		"a digest of nothing":      change(`"findings":"sha256:2`, `"findings":"sha256:`),
		"a digest in capitals":     change(`"findings":"sha256:2d711642b726b044`, `"findings":"sha256:2D711642B726B044`),
		"a time with a zone":       change("07.891234Z", "07.891234+00:00"),
		"a time of milliseconds":   change("07.891234Z", "07.891Z"),
		"a day that is not there":  change("2026-03-04", "2026-02-30"),
		"no engine":                change(`"engine":"1.2.3"`, `"engine":""`),
		"an unknown action":        change(`"action":"block"`, `"action":"deny"`),
		"an unknown outcome":       change(`"outcome":"blocked"`, `"outcome":"fine"`),
		"an unknown effect":        change(`"effect":"block"`, `"effect":"some"`),
		"blocked without effect":   strings.Replace(change(`"effect":"block"`, `"effect":"warn"`), `"conclusion":"block"`, `"conclusion":"pass"`, 1),
		"no reason":                change(`"reason":"1 introduced finding blocks."`, `"reason":""`),
		"line zero":                change(`"line":3},"decidedBy"`, `"line":0},"decidedBy"`),
		"an unknown severity":      change(`"severity":"high"`, `"severity":"bad"`),
		"a count below its list":   change(`"blocking":1`, `"blocking":0`),
		"a negative count":         change(`"underNoPolicy":0`, `"underNoPolicy":-1`),
		"a count that is no whole": change(`"matched":2`, `"matched":2.0`),
	} {
		if _, err := ParseCanonical([]byte(s)); !errors.Is(err, ErrForm) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestListsLongerThanTheLimitAreRefused(t *testing.T) {
	v := sample(t)
	for len(v.Policies[0].Blocking) <= MaxRefs {
		v.Policies[0].Blocking = append(v.Policies[0].Blocking, v.Policies[0].Blocking[0])
	}
	v.Policies[0].Counts.Blocking = len(v.Policies[0].Blocking)
	if _, err := ParseCanonical(canonical(t, v)); !errors.Is(err, ErrForm) {
		t.Errorf("got %v", err)
	}
}

func TestSchemaAcceptsAVerdictAndNothingMore(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:noxaudit:verdict:1", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("urn:noxaudit:verdict:1")
	if err != nil {
		t.Fatal(err)
	}
	b := canonical(t, sample(t))
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(whole); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(m map[string]any){
		"an unknown member":  func(m map[string]any) { m["x"] = 1 },
		"no subject":         func(m map[string]any) { delete(m, "subject") },
		"a third conclusion": func(m map[string]any) { m["conclusion"] = "neutral" },
		"a bare digest":      func(m map[string]any) { m["inputs"].(map[string]any)["policy"] = "abc" },
	} {
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		spoil(m)
		if schema.Validate(m) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestIDIsAPrefixOfTheDigest(t *testing.T) {
	if got := ID("sha256:" + strings.Repeat("00", 31) + "ff"); got != "V-00000000" {
		t.Error(got)
	}
	if got := ID("sha256:ffffffffff" + strings.Repeat("00", 27)); got != "V-ZZZZZZZZ" {
		t.Error(got)
	}
	for _, bad := range []string{"", "sha256:", "sha256:xyz", "sha256:00", "sha512:" + strings.Repeat("00", 32)} {
		if got := ID(bad); got != "" {
			t.Errorf("%q has id %q", bad, got)
		}
	}
	d, err := sample(t).Digest()
	if err != nil || len(ID(d)) != 10 {
		t.Errorf("%s, %v", ID(d), err)
	}
}

func TestTimeIsWrittenInOneForm(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("", 3600))
	if got := FormatTime(at); got != "2026-01-02T02:04:05.000006Z" {
		t.Error(got)
	}
}

func FuzzParseCanonical(f *testing.F) {
	b := canonical(f, sample(f))
	f.Add(b)
	f.Add([]byte("{}"))
	f.Add(bytes.Replace(b, []byte(`"pass"`), []byte(`"block"`), 1))
	f.Add([]byte(`{"schema":"noxaudit.verdict/1","policies":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseCanonical(b)
		if err != nil {
			if !errors.Is(err, ErrForm) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again := canonical(t, v); !bytes.Equal(again, b) {
			t.Errorf("read %q, wrote %q", b, again)
		}
	})
}
