package policytest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// moment is when every case takes place, and the last moment of its waivers.
var moment = time.Unix(0, 0).UTC()

// Result is what became of one case.
type Result struct {
	Name        string       `json:"name"`
	Line        int          `json:"line"` // of the case in its file, from 1
	Passed      bool         `json:"passed"`
	Differences []Difference `json:"differences"` // empty where it passed
}

// Difference is one thing that a case wants and the verdict does not say.
type Difference struct {
	Policy string `json:"policy,omitempty"` // empty: the verdict as a whole
	Member string `json:"member"`           // "conclusion", "outcome", "effect", "blocking", "warning" or "waived"
	Want   string `json:"want"`
	Got    string `json:"got"`
	Reason string `json:"reason,omitempty"` // the policy's own, for what it came to
}

// Run judges every case under the policies of set, in the order of the file, and names the policies that no case
// asks about or makes act, sorted; those of ignore are not missed. A *policy.LoadError says that a case names a
// policy that set does not have. engine is the version of this program.
func (f *File) Run(set policy.Set, ignore []string, engine string) (results []Result, untested []string, err error) {
	var names []string
	for _, p := range set.Policies() {
		names = append(names, p.Name)
	}
	r, _ := policy.NewReader([]byte("{}"), f.origin, "cases")
	for _, c := range f.cases {
		for _, w := range c.want.policies {
			if !slices.Contains(names, w.key.Value) {
				r.Unknown(w.key, names, "a policy in force under these policies")
			}
		}
	}
	if err := r.Err(); err != nil {
		return nil, nil, err
	}
	touched := map[string]bool{}
	for _, c := range f.cases {
		v, err := policy.Judge(policy.Input{
			Subject:  verdict.Subject{Account: name.Local.String(), Repository: verdict.Repository{ID: "test"}, Tree: "test", Context: verdict.Local},
			Findings: c.findings, Policy: set, Waivers: c.waivers, Assessments: c.assessments, Time: moment, Engine: engine,
		})
		if err != nil {
			return nil, nil, fmt.Errorf("%s:%d: the case cannot be judged: %w", f.origin.Path, c.node.Line, err)
		}
		for _, p := range v.Policies {
			if p.Effect != verdict.EffectNone || p.Counts.Matched > 0 {
				touched[p.Name] = true
			}
		}
		for _, w := range c.want.policies {
			touched[w.key.Value] = true
		}
		d := c.differences(v)
		results = append(results, Result{Name: c.name, Line: c.node.Line, Passed: len(d) == 0, Differences: d})
	}
	for _, n := range names {
		if !touched[n] && !slices.Contains(ignore, n) {
			untested = append(untested, n)
		}
	}
	return results, untested, nil
}

func (c *testCase) differences(v verdict.Verdict) []Difference {
	out := []Difference{}
	if w := c.want.conclusion; w != "" && w != v.Conclusion {
		d := Difference{Member: "conclusion", Want: string(w), Got: string(v.Conclusion)}
		if v.Conclusion == verdict.Blocked {
			var by []string
			for _, p := range v.Policies {
				if p.Effect == verdict.EffectBlock {
					by = append(by, p.Name+": "+p.Reason)
				}
			}
			d.Reason = strings.Join(by, " ")
		}
		out = append(out, d)
	}
	for _, w := range c.want.policies {
		i := slices.IndexFunc(v.Policies, func(p verdict.Result) bool { return p.Name == w.key.Value })
		p := v.Policies[i]
		differ := func(member, want, got string) {
			if want != got {
				out = append(out, Difference{p.Name, member, want, got, p.Reason})
			}
		}
		if w.outcome != "" {
			differ("outcome", string(w.outcome), string(p.Outcome))
		}
		if w.effect != "" {
			differ("effect", string(w.effect), string(p.Effect))
		}
		for _, l := range []struct {
			member string
			want   *[]string
			got    []verdict.Ref
		}{{"blocking", w.blocking, p.Blocking}, {"warning", w.warning, p.Warning}, {"waived", w.waived, p.Waived}} {
			if l.want == nil {
				continue
			}
			var got []string
			for _, r := range l.got {
				got = append(got, c.labels[r.Fingerprint])
			}
			slices.Sort(got)
			differ(l.member, list(*l.want), list(got))
		}
	}
	return out
}

func list(names []string) string { return "[" + strings.Join(names, ", ") + "]" }

func itoa(n int) string { return strconv.Itoa(n) }
