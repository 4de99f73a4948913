package figures

import (
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// State is how a repository stands. The zero value is the one that claims nothing.
type State uint8

// The states.
const (
	NotAudited State = iota // its default branch was never looked at
	Healthy
	Attention
	Critical
)

func (s State) String() string {
	return [...]string{"not-audited", "healthy", "attention", "critical"}[min(s, Critical)]
}

// What open findings cost, of 100 points. Each severity costs at most its most; info costs nothing.
var costs = [...]struct{ each, most, late int }{
	finding.Info:     {0, 0, 0},
	finding.Low:      {1, 5, 3},
	finding.Medium:   {2, 15, 7},
	finding.High:     {6, 30, 15},
	finding.Critical: {41, 70, 20},
}

// Cost is one line of the reckoning behind a score.
type Cost struct {
	Severity finding.Severity
	Open     int
	Points   int           // taken for being open
	Late     time.Duration // how far the oldest is past its limit; 0: it is not
	LateCost int           // taken for that
}

// Health is a repository's state, its score, and the reckoning behind both.
//
// The score is 100 less what open findings of the default branch cost: 41 points a critical one (at most 70), 6 a
// high one (at most 30), 2 a medium one (at most 15), 1 a low one (at most 5); and once per severity 20, 15, 7 or 3
// more when the oldest is past its time limit. It never falls below 0. A repository is critical below 60 or with an
// open critical finding, needs attention below 80 or when the newest verdict on its default branch blocks, and is
// healthy otherwise.
type Health struct {
	State   State
	Score   int // 0 to 100; without meaning for NotAudited
	Costs   []Cost
	Blocked bool // the newest verdict on the default branch blocks
}

// reckon is the one place where health is computed.
func reckon(counts []store.OpenCount, line store.LineState, limits Limits, now time.Time) Health {
	if line.AuditedAt.IsZero() && line.Verdict == "" {
		return Health{}
	}
	h := Health{State: Healthy, Score: 100, Blocked: line.Conclusion == string(verdict.Blocked)}
	for _, s := range finding.Severities() {
		for _, c := range counts {
			if c.Severity != s || c.Open == 0 {
				continue
			}
			k := costs[s]
			cost := Cost{Severity: s, Open: c.Open, Points: min(c.Open*k.each, k.most), Late: limits.Late(s, c.Oldest, now)}
			if cost.Late > 0 {
				cost.LateCost = k.late
			}
			h.Score -= cost.Points + cost.LateCost
			h.Costs = append(h.Costs, cost)
			if s == finding.Critical {
				h.State = Critical
			}
		}
	}
	h.Score = max(h.Score, 0)
	switch {
	case h.State == Critical || h.Score < 60:
		h.State = Critical
	case h.Score < 80 || h.Blocked:
		h.State = Attention
	}
	return h
}

// Why is the first reason to look at the repository, as a situation; "" when there is none.
func (h Health) Why(limits Limits) string {
	for _, c := range h.Costs {
		if c.Late > 0 {
			return fmt.Sprintf("Past its %d-day limit by %s", limits[c.Severity], days(c.Late))
		}
		if c.Severity == finding.Critical {
			return fmt.Sprintf("%s open on the default branch", Count(c.Open, "critical finding", "critical findings"))
		}
	}
	if h.Blocked {
		return "The default branch is blocked"
	}
	for _, c := range h.Costs {
		if c.Severity >= finding.High {
			return Count(c.Open, "high finding", "high findings") + " open on the default branch"
		}
	}
	return ""
}

func days(d time.Duration) string {
	return Count(max(1, int(d.Hours()/24)), "day", "days")
}

// Count writes "1 finding", "1,139 findings".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Number(n) + " " + many
}

// Number writes a whole number with commas.
func Number(n int) string {
	s := fmt.Sprint(max(n, -n))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if n < 0 {
		return "-" + s
	}
	return s
}
