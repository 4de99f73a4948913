package demo

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheStoryNamesOnlyPeopleAndRepositoriesThatThereAre(t *testing.T) {
	steps, err := readStory()
	if err != nil {
		t.Fatal(err)
	}
	repos, days := map[string]bool{}, -1000
	for _, s := range steps {
		for _, login := range []string{s.by, s.review, s.merge, s.close, s.approve, strings.SplitN(s.reject, " ", 2)[0]} {
			if login != "" && !slices.ContainsFunc(People, func(p Person) bool { return p.Login == login }) {
				t.Errorf("%s: nobody is called %q", s.text, login)
			}
		}
		if s.kind == "commit" {
			repos[s.repo] = true
			continue
		}
		if !repos[s.repo] || s.branch == "" || len(s.files) == 0 {
			t.Errorf("%s: no repository %q, no branch or no files", s.text, s.repo)
		}
		if s.day < days {
			t.Errorf("%s: happens before the step before it", s.text)
		}
		days = s.day
		for path, text := range s.files {
			if strings.Contains(text, "{{") {
				t.Errorf("%s: %s holds a placeholder", s.text, path)
			}
		}
	}
	for _, key := range []string{Clean, Leak, Waived, Fork} {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.key == key && s.merge == "" && s.close == "" }) {
			t.Errorf("no open pull request %q", key)
		}
	}
}

func TestAStoryWithAMistakeIsRefused(t *testing.T) {
	for _, bad := range []string{"commit: x\nwhat: y\n", "commit: x\nday: soon\n"} {
		if _, err := parseStep([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestTheClockJumpsOnAndNeverBackOrAhead(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	c := NewClock(func() time.Time { return now })
	c.Begin(now.AddDate(0, 0, -42))
	if got := c.Now(); !got.Equal(now.AddDate(0, 0, -42)) {
		t.Errorf("begins at %s", got)
	}
	c.Jump(now.AddDate(0, 0, -10))
	c.Jump(now.AddDate(0, 0, -20))
	if got := c.Now(); !got.Equal(now.AddDate(0, 0, -10)) {
		t.Errorf("went back to %s", got)
	}
	c.Jump(now.AddDate(0, 0, 3))
	if got := c.Now(); !got.Equal(now) {
		t.Errorf("went ahead to %s", got)
	}
	c.Begin(now.AddDate(0, 0, -1))
	c.Arrive()
	if got := c.Now(); !got.Equal(now) {
		t.Errorf("arrived at %s", got)
	}
}
