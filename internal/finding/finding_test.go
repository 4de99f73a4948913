package finding

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func draft(typ, context string, line int) Draft {
	return Draft{Type: typ, Focus: "security", Severity: High, Confidence: Certain, Evidence: Deterministic, Title: typ, Context: context, Region: Region{StartLine: line}}
}

func TestFingerprintSurvivesMovedAndReindentedLines(t *testing.T) {
	before := Assemble("secrets", "a.go", []Draft{draft("secrets/x", "key = \"***\"", 3)})
	after := Assemble("secrets", "a.go", []Draft{draft("secrets/x", "\t key  =\t\"***\"  ", 300)})
	if before[0].Fingerprint != after[0].Fingerprint || before[0].ID != after[0].ID {
		t.Error("a moved and re-indented line became another finding")
	}
}

func TestFingerprintDistinguishes(t *testing.T) {
	base := Assemble("a", "a.go", []Draft{draft("x/1", "c", 1)})[0]
	for name, other := range map[string]Finding{
		"type":    Assemble("a", "a.go", []Draft{draft("x/2", "c", 1)})[0],
		"path":    Assemble("a", "b.go", []Draft{draft("x/1", "c", 1)})[0],
		"context": Assemble("a", "a.go", []Draft{draft("x/1", "d", 1)})[0],
	} {
		if other.Fingerprint == base.Fingerprint {
			t.Errorf("another %s has the same fingerprint", name)
		}
	}
	if moved := Assemble("a", "b.go", []Draft{draft("x/1", "c", 9)})[0]; moved.Moved != base.Moved {
		t.Error("the moved key depends on the path or the line")
	}
}

func TestFieldsCannotBleedIntoEachOther(t *testing.T) {
	a := Assemble("a", "ab", []Draft{draft("t", "c", 1)})[0]
	b := Assemble("a", "a", []Draft{draft("t", "bc", 1)})[0]
	if a.Fingerprint == b.Fingerprint {
		t.Error("path and context are not separated in the fingerprint")
	}
}

func TestEqualContextsInOneFileAreCountedFromTheTop(t *testing.T) {
	fs := Assemble("a", "a.go", []Draft{draft("t", "c", 9), draft("t", "c", 2), draft("t", "c", 2)})
	if len(fs) != 2 {
		t.Fatalf("got %d findings, want 2: one place is one finding", len(fs))
	}
	if fs[0].Region.StartLine != 2 || fs[0].Fingerprint == fs[1].Fingerprint {
		t.Error("occurrences are not numbered by place")
	}
	alone := Assemble("a", "a.go", []Draft{draft("t", "c", 5)})
	if alone[0].Fingerprint != fs[0].Fingerprint {
		t.Error("the first occurrence changed its identity when a second appeared")
	}
}

func TestParseID(t *testing.T) {
	f := Assemble("a", "a.go", []Draft{draft("t", "c", 1)})[0]
	id, err := ParseID(strings.ToLower(f.ID))
	if err != nil || !f.Matches(id) {
		t.Errorf("ParseID(%q) = %q, %v; does not match its finding", f.ID, id, err)
	}
	for _, bad := range []string{"", "NX-", "NX-12345", "NX-12345678901", "XX-123456", "NX-12345!", "NX-UUUUUU", f.Fingerprint} {
		if got, err := ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) = %q, want an error", bad, got)
		}
	}
	if id, err := ParseID("nx-o0il1aa"); err != nil || id != "NX-00111AA" {
		t.Errorf("look-alikes are not read as digits: %q, %v", id, err)
	}
}

func TestConfidenceTextIsExact(t *testing.T) {
	for s, want := range map[string]Confidence{"0": 0, "0.9": 900, "0.90": 900, "0.875": 875, "1": 1000, "1.0": 1000, "0.001": 1} {
		if got, err := ParseConfidence(s); err != nil || got != want {
			t.Errorf("ParseConfidence(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, bad := range []string{"", ".9", "1.001", "2", "-0.1", "0.9999", "90", "0.", "9e-1", "NaN", "0,9"} {
		if got, err := ParseConfidence(bad); err == nil {
			t.Errorf("ParseConfidence(%q) = %d, want an error", bad, got)
		}
	}
	for c := range Certain + 1 {
		if back, err := ParseConfidence(c.String()); err != nil || back != c {
			t.Fatalf("%d is written as %q and read as %d, %v", c, c.String(), back, err)
		}
	}
}

func TestMarkIntroduced(t *testing.T) {
	secret := func(path string, contents ...string) []Finding {
		var ds []Draft
		for i, c := range contents {
			d := draft("secrets/x", "key = ***", i+1)
			d.Content = c
			ds = append(ds, d)
		}
		return Assemble("secrets", path, ds)
	}
	both := func(sets ...[]Finding) []Finding { return slices.Concat(sets...) }
	moved := func(from, to string) Moves {
		return Moves{Added: map[string]bool{to: true}, Deleted: map[string]bool{from: true}}
	}
	for _, c := range []struct {
		name       string
		base, head []Finding
		moves      Moves
		want       []bool
	}{
		{"unchanged", secret("a", "1"), secret("a", "1"), Moves{}, []bool{false}},
		{"new file", nil, secret("a", "1"), Moves{Added: map[string]bool{"a": true}}, []bool{true}},
		{"renamed file", secret("a", "1"), secret("b", "1"), moved("a", "b"), []bool{false}},
		{"moved into a file that was there", secret("a", "1"), secret("b", "1"), Moves{Deleted: map[string]bool{"a": true}}, []bool{true}},
		{"moved out of a file that stays", secret("a", "1"), secret("b", "1"), Moves{Added: map[string]bool{"b": true}}, []bool{true}},
		{"copied file", secret("a", "1"), both(secret("a", "1"), secret("b", "1")), Moves{Added: map[string]bool{"b": true}}, []bool{false, true}},
		{"moved to two files", secret("a", "1"), both(secret("b", "1"), secret("c", "1")),
			Moves{Added: map[string]bool{"b": true, "c": true}, Deleted: map[string]bool{"a": true}}, []bool{false, true}},
		{"another secret in the same place", secret("a", "1"), secret("a", "2"), Moves{}, []bool{true}},
		{"another secret in a renamed file", secret("a", "1"), secret("b", "2"), moved("a", "b"), []bool{true}},
		{"the first of three taken out", secret("a", "1", "2", "3"), secret("a", "2", "3"), Moves{}, []bool{false, false}},
		{"three reordered", secret("a", "1", "2", "3"), secret("a", "3", "1", "2"), Moves{}, []bool{false, false, false}},
		{"repeated in the same file", secret("a", "1"), secret("a", "1", "1"), Moves{}, []bool{false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			MarkIntroduced(c.head, c.base, c.moves)
			var got []bool
			for _, f := range c.head {
				got = append(got, f.Introduced)
				if f.Path == "b" && !f.Introduced && f.MovedFrom != "a" {
					t.Errorf("moved from %q, want a", f.MovedFrom)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("introduced = %v, want %v", got, c.want)
			}
		})
	}
}

func TestWithoutAContextOnlyAnUnchangedRenamedFileExcuses(t *testing.T) {
	base := Assemble("a", "a", []Draft{draft("t", "", 0)})
	moves := Moves{Added: map[string]bool{"b": true}, Deleted: map[string]bool{"a": true}}
	head := Assemble("a", "b", []Draft{draft("t", "", 0)})
	if MarkIntroduced(head, base, moves); !head[0].Introduced {
		t.Error("a finding about a whole file was excused by another file")
	}
	moves.Renamed = map[string]string{"b": "a"}
	if MarkIntroduced(head, base, moves); head[0].Introduced {
		t.Error("a renamed file's finding became new")
	}
}

func TestCompareIgnoresMovedLinesAndTellsChangedStatements(t *testing.T) {
	older := Assemble("a", "a.go", []Draft{draft("t", "one", 1), draft("t", "two", 2), draft("t", "three", 3)})
	changed := draft("t", "two", 7)
	changed.Severity = Critical
	newer := Assemble("a", "a.go", []Draft{draft("t", "one", 5), changed, draft("t", "four", 8)})
	d := Compare(older, newer)
	contexts := func(fs []Finding) (out []string) {
		for _, f := range fs {
			out = append(out, f.Context)
		}
		return out
	}
	if diff := cmp.Diff([][]string{{"four"}, {"two"}, {"three"}}, [][]string{contexts(d.Created), contexts(d.Updated), contexts(d.Resolved)}); diff != "" {
		t.Errorf("created, updated, resolved: %s", diff)
	}
}

var drafts = rapid.Custom(func(t *rapid.T) Draft {
	d := draft(rapid.SampledFrom([]string{"a/1", "a/2", "b/1"}).Draw(t, "type"), rapid.SampledFrom([]string{"x", "x y", " x\ty", "z"}).Draw(t, "context"), rapid.IntRange(0, 5).Draw(t, "line"))
	d.Severity = Severity(rapid.IntRange(0, 4).Draw(t, "severity"))
	d.Content = rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "content")
	return d
})

func TestIdentityDoesNotDependOnTheOrderOfDrafts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(drafts, 0, 12).Draw(t, "drafts")
		shuffled := rapid.Permutation(ds).Draw(t, "shuffled")
		a, b := Assemble("a", "p", ds), Assemble("a", "p", shuffled)
		ca, _ := Canonical(a)
		cb, _ := Canonical(b)
		if string(ca) != string(cb) {
			t.Fatalf("differ:\n%s\n%s", ca, cb)
		}
	})
}

func TestCanonicalFormReadsBackAndAcceptsNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := Assemble("a", "p", rapid.SliceOfN(drafts, 0, 8).Draw(t, "drafts"))
		b, err := Canonical(fs)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCanonical(b)
		if err != nil {
			t.Fatalf("own form refused: %v", err)
		}
		if again, _ := Canonical(back); string(again) != string(b) {
			t.Fatal("the canonical form is not stable")
		}
		if len(fs) > 1 {
			if _, err := ParseCanonical(append([]byte(" "), b...)); err == nil {
				t.Fatal("accepted leading white space")
			}
		}
	})
}

func FuzzParseCanonical(f *testing.F) {
	b, _ := Canonical(Assemble("a", "p", []Draft{draft("t", "c", 1)}))
	f.Add(b)
	f.Add([]byte("[]"))
	f.Add([]byte(`[{"id":"x"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, err := ParseCanonical(b)
		if err != nil {
			return
		}
		if again, err := Canonical(fs); err != nil || string(again) != string(b) {
			t.Errorf("accepted a form that is not canonical: %q", b)
		}
	})
}
