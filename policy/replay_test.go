package policy

import (
	"errors"
	"testing"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

func TestReplayOfTheSameInputIsIdentical(t *testing.T) {
	in := sample(t)
	if err := Replay(canonical(t, judge(t, in)), in); err != nil {
		t.Error(err)
	}
}

func TestReplayFromStoredInputsIsIdentical(t *testing.T) {
	in := sample(t)
	stored := canonical(t, judge(t, in))
	// What the store keeps: four documents in canonical form.
	findings, err := finding.Canonical(in.Findings)
	if err != nil {
		t.Fatal(err)
	}
	assessments, err := CanonicalAssessments(in.Assessments)
	if err != nil {
		t.Fatal(err)
	}
	again := in
	if again.Findings, err = finding.ParseCanonical(findings); err != nil {
		t.Fatal(err)
	}
	if again.Assessments, err = ParseAssessments(assessments); err != nil {
		t.Fatal(err)
	}
	if again.Policy, err = ParseSet(in.Policy.Canonical()); err != nil {
		t.Fatal(err)
	}
	if err := Replay(stored, again); err != nil {
		t.Error(err)
	}
}

func TestReplayNamesTheFirstMemberThatDiffers(t *testing.T) {
	stored := canonical(t, judge(t, sample(t)))
	for _, c := range []struct {
		name, member  string
		engineChanged bool
		change        func(*Input)
	}{
		{"another engine alone", "inputs.engine", true, func(in *Input) { in.Engine = "2.0.0" }},
		{"another engine and more", "inputs.time", true, func(in *Input) { in.Engine = "2.0.0"; in.Time = in.Time.AddDate(0, 0, 1) }},
		{"another subject", "subject.repository.fullName", false, func(in *Input) { in.Subject.Repository.FullName = "octo-org/renamed" }},
		{"a member that is not there", "subject.base", false, func(in *Input) { in.Subject.Base = noCommit }},
		{"the last member not there", "subject.pull", false, func(in *Input) { in.Subject.Pull = 0 }},
		{"findings that decide otherwise", "conclusion", false, func(in *Input) { in.Findings = nil }},
		{"a finding more", "inputs.findings", false, func(in *Input) { in.Findings = append(in.Findings, one("docs/x", "a", focus("docs"))) }},
		{"an assessment less", "inputs.assessments", false, func(in *Input) { in.Assessments = in.Assessments[:1] }},
		{"another policy", "inputs.policy", false, func(in *Input) {
			in.Policy = Effective(mustLoad(t, sampleInput+"    description: \"new\"\n"))
		}},
	} {
		in := sample(t)
		c.change(&in)
		err := Replay(stored, in)
		var d *Difference
		if !errors.As(err, &d) || d.Member != c.member || d.EngineChanged() != c.engineChanged {
			t.Errorf("%s: got %v, want %s", c.name, err, c.member)
		}
	}
}

func TestDifferenceIsASentence(t *testing.T) {
	stored := canonical(t, judge(t, sample(t)))
	in := sample(t)
	in.Engine = "2.0.0"
	in.Subject.Pull = 8
	want := `replay: subject.pull was 7 and is now 8 (judged by version 1.2.3 then, by 2.0.0 now)`
	if err := Replay(stored, in); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFirstDifferenceGoesIntoLists(t *testing.T) {
	for _, c := range []struct{ a, b, member, was, now string }{
		{`{"p":[{"x":1},{"x":2,"y":{"z":"a"}}]}`, `{"p":[{"x":1},{"x":2,"y":{"z":"b"}}]}`, "p[1].y.z", `"a"`, `"b"`},
		{`{"p":[1,2]}`, `{"p":[1]}`, "p[1]", "2", ""},
		{`{"p":[1]}`, `{"p":[1,2]}`, "p[1]", "", "2"},
		{`{"a":1,"c":1}`, `{"a":1,"b":2,"c":1}`, "b", "", "2"},
		{`{"a":1,"b":2,"c":1}`, `{"a":1,"c":1}`, "b", "2", ""},
		{`{"a":{"b":1}}`, `{"a":[1]}`, "a", `{"b":1}`, "[1]"},
	} {
		if member, was, now := firstDifference([]byte(c.a), []byte(c.b)); member != c.member || was != c.was || now != c.now {
			t.Errorf("%s against %s: %s, %s, %s", c.a, c.b, member, was, now)
		}
	}
}

func TestReplayRefusesWhatIsNoVerdict(t *testing.T) {
	in := sample(t)
	stored := canonical(t, judge(t, in))
	for _, b := range [][]byte{nil, []byte("{}"), append([]byte(" "), stored...), append(stored, '\n')} {
		if err := Replay(b, in); !errors.Is(err, verdict.ErrForm) {
			t.Errorf("%.20q: got %v", b, err)
		}
	}
	in.Engine = ""
	if err := Replay(stored, in); !errors.Is(err, ErrInput) {
		t.Errorf("got %v", err)
	}
}
