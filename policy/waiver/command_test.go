package waiver

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const why = `reason="legacy SOAP client, isolated VPC"`

func TestCommandsAreReadAndWrittenInOneForm(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/noxaudit waive NX-7F3K2Q " + why, "/noxaudit waive NX-7F3K2Q " + why},
		{"/noxaudit  waive\tnx-7f3koi " + why + " ", "/noxaudit waive NX-7F3K01 " + why},
		{"/noxaudit waive NX-7F3K2QAB " + why + ` control="egress deny-all" ticket=SEC-412 for=4w kind=accepted-risk scope=finding`,
			`/noxaudit waive NX-7F3K2QAB kind=accepted-risk for=28d ticket=SEC-412 control="egress deny-all" ` + why},
		{"/noxaudit fp NX-7F3K2Q until=2026-12-31 " + why, "/noxaudit waive NX-7F3K2Q kind=false-positive until=2026-12-31 " + why},
		{"/noxaudit waive rule:secrets/aws scope=repo " + why, "/noxaudit waive rule:secrets/aws scope=repo " + why},
		{"/noxaudit waive here " + why, "/noxaudit waive here " + why},
		{"/noxaudit approve w-9qk3tzab@1A2B3C4D sha=ABCDEF0 note=seen", "/noxaudit approve W-9QK3TZAB@1a2b3c4d sha=abcdef0 note=seen"},
		{`/noxaudit reject W-9QK3TZAB reason="say \"why\" C:\temp\\ please"`, `/noxaudit reject W-9QK3TZAB reason="say \"why\" C:\\temp\\ please"`},
		{`/noxaudit reject W-9QK3TZAB reason="  Übergang: 日本語でも構いません、本当に  "`, `/noxaudit reject W-9QK3TZAB reason="Übergang: 日本語でも構いません、本当に"`},
		{"/noxaudit revoke W-9QK3TZAB " + why, "/noxaudit revoke W-9QK3TZAB " + why},
		{"/noxaudit list", "/noxaudit list"},
		{"/noxaudit list expiring", "/noxaudit list expiring"},
		{"/noxaudit explain policy:no-secrets", "/noxaudit explain policy:no-secrets"},
		{"/noxaudit recheck", "/noxaudit recheck"},
		{"/noxaudit help", "/noxaudit help"},
		{"/noxaudit extend W-9QK3TZAB for=30d", "/noxaudit extend W-9QK3TZAB for=30d"},
		{`/noxaudit emergency incident=INC-77 rollback="redeploy v41" ` + why, `/noxaudit emergency incident=INC-77 rollback="redeploy v41" ` + why},
	} {
		got, err := Parse(c.in)
		if err != nil || got.String() != c.want {
			t.Errorf("%s\n got %s, %v\nwant %s", c.in, got, err, c.want)
			continue
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%s is read back as %+v, %v", got, again, err)
		}
	}
}

func TestRefusalsSayWhatWouldBeValid(t *testing.T) {
	for _, c := range []struct {
		in   string
		code Code
		says string
	}{
		{"/noxaudit aprove W-9QK3TZAB", UnknownVerb, `Did you mean "approve"?`},
		{"/noxaudit Approve W-9QK3TZAB", UnknownVerb, `Did you mean "approve"?`},
		{"/noxaudit lsit", UnknownVerb, `Did you mean "list"?`},
		{"/noxaudit delete W-9QK3TZAB", UnknownVerb, "Valid are waive"},
		{"/noxaudit", UnknownVerb, "one of waive"},
		{"/noxaudit waive " + why, BadTarget, "name a finding"},
		{"/noxaudit approve", BadTarget, "name a waiver"},
		{"/noxaudit approve NX-7F3K2Q", BadTarget, "name a waiver"},
		{"/noxaudit waive NX-7F3 " + why, BadTarget, "6 to 10 characters"},
		{"/noxaudit waive NX-7F3K2Q7F3K2 " + why, BadTarget, "6 to 10 characters"},
		{"/noxaudit waive NX-7F3U2Q " + why, BadTarget, "6 to 10 characters"},
		{"/noxaudit approve W-9QK3TZAB@", BadTarget, "8 hexadecimal digits"},
		{"/noxaudit approve W-9QK3TZAB@123", BadTarget, "8 hexadecimal digits"},
		{"/noxaudit waive NX-7F3K2Q NX-7F3K2R " + why, BadTarget, "a line of its own"},
		{"/noxaudit recheck NX-7F3K2Q", BadTarget, "takes no target"},
		{"/noxaudit waive rule:* scope=repo " + why, BadTarget, "no wildcards"},
		{"/noxaudit waive NX-7F3K2Q", NoReason, "needs a reason"},
		{"/noxaudit waive NX-7F3K2Q reason=", NoReason, "at least 15"},
		{`/noxaudit waive NX-7F3K2Q reason="   too short     "`, NoReason, "9 characters"},
		{"/noxaudit waive NX-7F3K2Q reason=https://example.com/issues/12345", NoReason, "only an address"},
		{`/noxaudit waive NX-7F3K2Q reason="(www.example.com/a http://example.com/b"`, NoReason, "only an address"},
		{`/noxaudit waive NX-7F3K2Q reason="` + strings.Repeat("x", MaxReason+1) + `"`, TooLarge, "at most 2000"},
		{`/noxaudit waive NX-7F3K2Q reason="` + strings.Repeat("x", MaxLine) + `"`, TooLarge, "longer than"},
		{"/noxaudit waive NX-7F3K2Q ticket=" + strings.Repeat("x", MaxTicket+1) + " " + why, TooLarge, "at most 100"},
		{"/noxaudit waive NX-7F3K2Q ticket= " + why, BadValue, "no value"},
		{"/noxaudit waive NX-7F3K2Q reason=legacy client in a VPC", NoReason, "6 characters"},
		{"/noxaudit waive NX-7F3K2Q legacy client", BadArgument, "Put quotes around a value"},
		{`/noxaudit waive NX-7F3K2Q reason="not closed, and long`, Quotes, "no closing quote"},
		{`/noxaudit waive NX-7F3K2Q reason="ends in a backslash\"`, Quotes, "no closing quote"},
		{`/noxaudit waive NX-7F3K2Q reason="closed"too early`, Quotes, "A space must follow"},
		{`/noxaudit waive NX-7F3K2Q reason=half"quoted"`, Quotes, "Put the whole value into quotes"},
		{`/noxaudit waive NX-7F3K2Q "legacy client in a VPC"`, Quotes, `key="…"`},
		{"/noxaudit waive NX-7F3K2Q reason=“legacy client in a VPC”", Quotes, "straight double quotes"},
		{"/noxaudit waive NX-7F3K2Q reason='legacy client in a VPC'", Quotes, "straight double quotes"},
		{"/noxaudit waive NX-7F3K2Q " + why + " " + why, DuplicateKey, "given twice"},
		{"/noxaudit waive NX-7F3K2Q tiket=1 " + why, UnknownKey, `Did you mean "ticket"?`},
		{"/noxaudit waive NX-7F3K2Q sha=abcdef0 " + why, UnknownKey, "does not take sha="},
		{"/noxaudit list state=open", UnknownKey, "takes no keys"},
		{"/noxaudit list all", BadArgument, "open, pending, active or expiring"},
		{"/noxaudit list opne", BadArgument, `Did you mean "open"?`},
		{"/noxaudit list open active", BadArgument, "not two"},
		{"/noxaudit waive NX-7F3K2Q kind=false-postive " + why, BadValue, `Did you mean "false-positive"?`},
		{"/noxaudit waive NX-7F3K2Q scope=org " + why, BadValue, "finding, path, pr, branch or repo"},
		{"/noxaudit waive NX-7F3K2Q until=2026-02-30 " + why, BadTerm, "is no day"},
		{"/noxaudit waive NX-7F3K2Q until=31.12.2026 " + why, BadTerm, "is no day"},
		{"/noxaudit waive NX-7F3K2Q until=2026-1-1 " + why, BadTerm, "is no day"},
		{"/noxaudit waive NX-7F3K2Q for=1m " + why, BadTerm, "days or weeks"},
		{"/noxaudit waive NX-7F3K2Q for=0d " + why, BadTerm, "days or weeks"},
		{"/noxaudit waive NX-7F3K2Q for=-3d " + why, BadTerm, "days or weeks"},
		{"/noxaudit waive NX-7F3K2Q for=9999w " + why, BadTerm, "days or weeks"},
		{"/noxaudit waive NX-7F3K2Q for=7d until=2026-12-01 " + why, BadTerm, "not both"},
		{"/noxaudit approve W-9QK3TZAB sha=abc", BadValue, "7 to 64"},
		{"/noxaudit approve W-9QK3TZAB sha=notahexdigit", BadValue, "7 to 64"},
	} {
		_, err := Parse(c.in)
		var r *Refusal
		if !errors.As(err, &r) || r.Code != c.code || !strings.Contains(r.Sentence, c.says) {
			t.Errorf("%.80s\n got %v\nwant %s: …%s…", c.in, err, c.code, c.says)
		}
	}
}

func TestWhatIsNotInThisVersionIsSaid(t *testing.T) {
	for in, want := range map[string]bool{
		"/noxaudit extend W-9QK3TZAB for=30d":            false,
		"/noxaudit emergency incident=INC-77 " + why:     false,
		"/noxaudit waive rule:secrets/aws " + why:        false,
		"/noxaudit waive policy:no-secrets " + why:       false,
		"/noxaudit waive here " + why:                    false,
		"/noxaudit waive NX-7F3K2Q scope=repo " + why:    false,
		"/noxaudit waive NX-7F3K2Q scope=finding " + why: true,
		"/noxaudit explain policy:no-secrets":            true,
		"/noxaudit approve W-9QK3TZAB@1a2b3c4d":          true,
	} {
		c, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Supported()
		var r *Refusal
		if (err == nil) != want || err != nil && (!errors.As(err, &r) || r.Code != NotYet) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestAbuse10WideWaiversAreRefused(t *testing.T) {
	for _, in := range []string{
		"/noxaudit waive rule:* " + why,
		"/noxaudit waive rule:secrets/* " + why,
		"/noxaudit waive policy:? " + why,
		"/noxaudit waive NX-* " + why,
		"/noxaudit waive * " + why,
		"/noxaudit waive NX-7F3K2Q scope=org " + why,
	} {
		if _, err := Parse(in); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
	for _, scope := range []string{"path", "pr", "branch", "repo"} {
		c, err := Parse("/noxaudit waive NX-7F3K2Q scope=" + scope + " " + why)
		if err != nil || c.Supported() == nil {
			t.Errorf("scope %s is accepted", scope)
		}
	}
	for _, term := range []string{"until=2099-01-01", "for=91d", "for=13w", "for=3660d"} {
		if _, err := ask(t, "/noxaudit waive NX-1W7GY3 "+term+" "+why, facts(author)); code(err) != TooLong {
			t.Errorf("%s: %v", term, err)
		}
	}
	if d, err := ask(t, "/noxaudit waive NX-1W7GY3 for=90d "+why, facts(author)); err != nil || d.Until != "2026-12-30T23:59:59Z" {
		t.Errorf("the maximum itself: %s, %v", d.Until, err)
	}
}

// commands generates every command that can be written.
func commands() *rapid.Generator[Command] {
	return rapid.Custom(func(t *rapid.T) Command {
		spec := verbs[rapid.IntRange(0, len(verbs)-1).Draw(t, "verb")]
		c := Command{Verb: spec.verb}
		if spec.verb == verbFP {
			c.Verb, c.Kind = VerbWaive, FalsePositive
		}
		if len(spec.targets) > 0 {
			c.Target.Kind = rapid.SampledFrom(spec.targets).Draw(t, "target")
			id := rapid.StringMatching("[0-9A-HJKMNP-TV-Z]{6,10}").Draw(t, "id")
			switch c.Target.Kind {
			case FindingTarget:
				c.Target.ID = "NX-" + id
			case WaiverTarget:
				c.Target.ID, c.Target.Digest = "W-"+id, rapid.StringMatching("([0-9a-f]{8})?").Draw(t, "digest")
			case RuleTarget, PolicyTarget:
				c.Target.ID = rapid.StringMatching("[a-z][a-z0-9._/-]{0,20}").Draw(t, "name")
			}
		}
		if spec.verb == VerbList {
			c.Filter = rapid.SampledFrom(append([]string{""}, filters...)).Draw(t, "filter")
		}
		free := func(label string, most int) string {
			s := rapid.StringOf(rapid.SampledFrom([]rune("ab \\\"=@'`<é日/:-#"))).Draw(t, label)
			s = strings.TrimSpace(s)
			if len([]rune(s)) > most {
				s = ""
			}
			return s
		}
		for _, key := range spec.keys {
			switch key {
			case "kind":
				c.Kind = Kind(rapid.SampledFrom(append([]string{""}, kindNames...)).Draw(t, key))
			case "until":
				c.Until = rapid.SampledFrom([]string{"", "2026-12-31", "2028-02-29"}).Draw(t, key)
			case "for":
				if c.Until == "" {
					c.Days = rapid.IntRange(0, maxDays).Draw(t, key)
				}
			case "scope":
				c.Scope = Scope(rapid.SampledFrom([]string{"", "path", "pr", "branch", "repo"}).Draw(t, key))
			case "sha":
				c.SHA = rapid.StringMatching("([0-9a-f]{7,64})?").Draw(t, key)
			case "ticket":
				c.Ticket = free(key, MaxTicket)
			case "incident":
				c.Incident = free(key, MaxTicket)
			case "control":
				c.Control = free(key, MaxControl)
			case "rollback":
				c.Rollback = free(key, MaxControl)
			case "note":
				c.Note = free(key, MaxNote)
			case "reason":
				c.Reason = strings.TrimSpace("because it says so " + free(key, 100))
			}
		}
		return c
	})
}

func TestEveryCommandIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := commands().Draw(t, "command")
		again, err := Parse(c.String())
		if err != nil || again != c {
			t.Fatalf("%s\n%+v\n%+v, %v", c, c, again, err)
		}
		if p := ParseComment("Hello,\n" + c.String() + "\nbye"); len(p.Lines) != 1 || p.Lines[0].Command != c {
			t.Fatalf("%s in a comment: %+v", c, p)
		}
	})
}
