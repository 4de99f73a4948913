package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

const blockSecrets = "policies:\n  p:\n    focus: security\n    action: block\n"

func covering(f finding.Finding, until time.Time) verdict.Waiver {
	return verdict.Waiver{ID: "W-9QK3TZAB", Digest: "sha256:x", Fingerprint: f.Fingerprint, Content: f.Content, Kind: "accepted-risk", Until: verdict.FormatTime(until)}
}

func TestAWaivedFindingIsListedAndDoesNotAct(t *testing.T) {
	key := one("secrets/aws-access-token", "src/a.go", func(f *finding.Finding) { f.Content = "one secret" })
	other := one("secrets/aws-access-token", "src/b.go")
	later := eventTime.Add(time.Hour)
	anotherSecret := covering(key, later)
	anotherSecret.Content = "another secret"
	withoutContent := covering(key, later)
	withoutContent.Content = ""
	for name, c := range map[string]struct {
		findings []finding.Finding
		waiver   verdict.Waiver
		outcome  verdict.Outcome
		blocking int
		waived   int
	}{
		"covered":                              {[]finding.Finding{key}, covering(key, later), verdict.OutcomeWaived, 0, 1},
		"covered to the last moment":           {[]finding.Finding{key}, covering(key, eventTime), verdict.OutcomeWaived, 0, 1},
		"expired":                              {[]finding.Finding{key}, covering(key, eventTime.Add(-time.Microsecond)), verdict.OutcomeBlocked, 1, 0},
		"another finding blocks":               {[]finding.Finding{key, other}, covering(key, later), verdict.OutcomeBlocked, 1, 1},
		"another secret in the same place":     {[]finding.Finding{key}, anotherSecret, verdict.OutcomeBlocked, 1, 0},
		"a waiver that names no secret at all": {[]finding.Finding{key}, withoutContent, verdict.OutcomeBlocked, 1, 0},
	} {
		in := input(t, blockSecrets, c.findings, ran("secrets", Found))
		in.Waivers = []verdict.Waiver{c.waiver}
		v := judge(t, in)
		var p verdict.Result
		for _, r := range v.Policies {
			if r.Name == "p" {
				p = r
			}
		}
		if p.Outcome != c.outcome || len(p.Blocking) != c.blocking || len(p.Waived) != c.waived || p.Counts.Waived != c.waived {
			t.Errorf("%s: %s, %d blocking, %d waived", name, p.Outcome, len(p.Blocking), len(p.Waived))
		}
		for _, r := range p.Waived {
			if r.Waiver != c.waiver.ID {
				t.Errorf("%s: waived by %q", name, r.Waiver)
			}
		}
		b, err := CanonicalWaivers(in.Waivers)
		if err != nil || v.Inputs.Waivers != canon.Digest(b) {
			t.Errorf("%s: the verdict names other waivers (%v)", name, err)
		}
		back, err := ParseWaivers(b)
		if err != nil {
			t.Fatal(err)
		}
		again := in
		again.Waivers = back
		if err := Replay(canonical(t, v), again); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := verdict.ParseCanonical(canonical(t, v)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheFloorIsNotWaived(t *testing.T) {
	broken := one("policy/unreadable", ".noxaudit/policies.yml", focus("policy"))
	in := input(t, blockSecrets, []finding.Finding{broken}, ran("policy", Found))
	in.Policy = Effective(Floor(), mustLoad(t, blockSecrets))
	in.Waivers = []verdict.Waiver{covering(broken, eventTime.Add(time.Hour))}
	if v := judge(t, in); v.Conclusion != verdict.Blocked {
		t.Errorf("a waiver got past the floor: %s", v.Conclusion)
	}
}

func TestWaiversThatAreNoneAreRefused(t *testing.T) {
	key := one("secrets/aws-access-token", "src/a.go")
	good := covering(key, eventTime)
	for name, ws := range map[string][]verdict.Waiver{
		"twice":         {good, good},
		"no id":         {{Digest: "d", Fingerprint: "f", Kind: "k", Until: good.Until}},
		"no end":        {{ID: "W-1", Digest: "d", Fingerprint: "f", Kind: "k"}},
		"a foreign end": {{ID: "W-1", Digest: "d", Fingerprint: "f", Kind: "k", Until: "2026-03-04"}},
	} {
		in := input(t, blockSecrets, []finding.Finding{key}, ran("secrets", Found))
		in.Waivers = ws
		if _, err := Judge(in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A waiver never makes anything worse, and never changes what is said of findings that it does not cover.
func TestAWaiverOnlyEverTakesItsOwnFindingOutOfTheWay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := []finding.Finding{
			one("secrets/a", "a.go", severity(finding.Severity(rapid.IntRange(0, 4).Draw(rt, "severity")))),
			one("secrets/b", "b.go"), one("secrets/c", "c.go", existing),
		}
		in := input(t, blockSecrets, fs, ran("secrets", Found))
		before := judge(t, in)
		at := rapid.IntRange(0, 2).Draw(rt, "covered")
		in.Waivers = []verdict.Waiver{covering(fs[at], eventTime.Add(time.Duration(rapid.IntRange(-1, 1).Draw(rt, "until"))*time.Hour))}
		after := judge(t, in)
		if before.Conclusion == verdict.Pass && after.Conclusion != verdict.Pass {
			rt.Fatal("a waiver made it worse")
		}
		for i := range before.Policies {
			b, a := before.Policies[i], after.Policies[i]
			if b.Counts.Blocking+b.Counts.Warning != a.Counts.Blocking+a.Counts.Warning+a.Counts.Waived {
				rt.Fatalf("%s: %+v became %+v", b.Name, b.Counts, a.Counts)
			}
			for _, r := range a.Waived {
				if r.Fingerprint != fs[at].Fingerprint {
					rt.Fatalf("%s is waived", r.ID)
				}
			}
		}
	})
}
