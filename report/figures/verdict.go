package figures

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Verdict is a stored verdict with the findings that it names.
type Verdict struct {
	verdict.Verdict
	Row      store.Verdict
	Findings map[Named]finding.Finding // those that its lists name
	Entry    Entry                     // the entry that records it; zero when it is not found
}

// Named is how a verdict names a finding.
type Named struct{ Fingerprint, Content string }

// Entry is a line of the ledger, or one on its way there.
type Entry struct {
	ID   string
	Seq  int64 // -1 until the ledger holds it
	Time time.Time
	ledger.Event
}

// Known reports whether there is an entry.
func (e Entry) Known() bool { return e.ID != "" }

// Verdict reads a verdict by its digest or its short id; ErrNotFound.
func (f *Figures) Verdict(ctx context.Context, account name.Account, id string) (Verdict, error) {
	t := f.Store.For(account)
	row, err := t.VerdictByID(ctx, id)
	if err != nil {
		return Verdict{}, err
	}
	return f.verdict(ctx, t, row)
}

func (f *Figures) verdict(ctx context.Context, t *store.Tenant, row store.Verdict) (Verdict, error) {
	out := Verdict{Row: row, Findings: map[Named]finding.Finding{}}
	d, err := t.Document(ctx, row.ID)
	if err != nil {
		return Verdict{}, err
	}
	if out.Verdict, err = verdict.ParseCanonical(d.Body); err != nil {
		return Verdict{}, corrupt("verdict", row.ID, err)
	}
	wanted := map[Named]bool{}
	for _, p := range out.Policies {
		for _, refs := range [][]verdict.Ref{p.Blocking, p.Warning, p.Waived} {
			for _, r := range refs {
				wanted[Named{r.Fingerprint, r.Content}] = true
			}
		}
	}
	if len(wanted) > 0 {
		if d, err = t.Document(ctx, out.Inputs.Findings); err != nil {
			return Verdict{}, err
		}
		fs, err := finding.ParseCanonical(d.Body)
		if err != nil {
			return Verdict{}, corrupt("findings", out.Inputs.Findings, err)
		}
		for _, one := range fs {
			if k := (Named{one.Fingerprint, one.Content}); wanted[k] {
				out.Findings[k] = one
			}
		}
	}
	out.Entry, err = verdictEntry(ctx, t, row)
	return out, err
}

// verdictEntry looks for the entry that records a verdict among those that its line got from then on: it comes after
// those about the findings of the audit. One that is not among the first few thousand is not looked for further.
func verdictEntry(ctx context.Context, t *store.Tenant, row store.Verdict) (Entry, error) {
	source := store.Expect{Repository: row.Repository, Line: row.Line}.Source()
	for _, limit := range []int{50, 3000} {
		rows, err := t.EntriesFrom(ctx, source, row.Time, limit)
		if err != nil {
			return Entry{}, err
		}
		rows = slices.DeleteFunc(rows, func(r store.EntryRow) bool { return !bytes.Contains(r.Body, []byte(row.ID)) })
		entries, err := parseEntries(source, rows)
		if err != nil {
			return Entry{}, err
		}
		for _, e := range entries {
			if e.Subject["verdict"] == row.ID {
				return e, nil
			}
		}
	}
	return Entry{}, nil
}

// entriesAt are the entries of a source of one time.
func entriesAt(ctx context.Context, t *store.Tenant, source string, at time.Time) ([]Entry, error) {
	rows, err := t.EntriesAt(ctx, source, at)
	if err != nil {
		return nil, err
	}
	return parseEntries(source, rows)
}

func parseEntries(source string, rows []store.EntryRow) ([]Entry, error) {
	out := make([]Entry, 0, len(rows))
	for _, r := range rows {
		e, err := parseBody(r.Body)
		if err != nil {
			return nil, corrupt("entry", source, err)
		}
		out = append(out, Entry{ID: e.ID, Seq: r.Seq, Time: e.Time, Event: e})
	}
	return out, nil
}

// parseBody reads the body of an entry, which is a line that has no place in the log yet.
func parseBody(body []byte) (ledger.Event, error) {
	const first = `{"v":1,"seq":0,"prev":"0000000000000000000000000000000000000000000000000000000000000000",`
	if len(body) == 0 || body[0] != '{' {
		return ledger.Event{}, errors.New("not an object")
	}
	l, err := ledger.ParseLine(append([]byte(first), body[1:]...))
	return l.Event, err
}

// PullReport is a pull request and what was decided about it.
type PullReport struct {
	store.Pull
	At      time.Time
	Verdict *Verdict        // the newest; nil before the first
	History []store.Verdict // the newest first
}

// Stale reports whether the newest verdict is about another head than the one GitHub told of last.
func (p PullReport) Stale() bool { return p.Verdict != nil && p.Verdict.Row.Head != p.Head }

const mostHistory = 12

// Pull is a pull request, open or closed; ErrNotFound.
func (f *Figures) Pull(ctx context.Context, account name.Account, repository string, number int) (PullReport, error) {
	t := f.Store.For(account)
	out := PullReport{At: f.Now()}
	var err error
	if out.Pull, err = t.Pull(ctx, repository, number); err != nil {
		return out, err
	}
	if out.History, err = t.LineVerdicts(ctx, repository, PullLine(number), mostHistory); err != nil || len(out.History) == 0 {
		return out, err
	}
	v, err := f.verdict(ctx, t, out.History[0])
	if err != nil {
		return out, err
	}
	out.Verdict = &v
	return out, nil
}

// CommitReport is a commit and everything that was decided about it.
type CommitReport struct {
	SHA      name.Commit
	At       time.Time
	Head     *store.Head // what became of its check run; nil: it has none
	Pulls    []store.Pull
	Verdicts []Verdict // the newest of each occasion, blocking ones first
}

// Commit is what is known of a commit; ErrNotFound when that is nothing.
func (f *Figures) Commit(ctx context.Context, account name.Account, repository string, sha name.Commit) (CommitReport, error) {
	t := f.Store.For(account)
	out := CommitReport{SHA: sha, At: f.Now()}
	h, err := t.Head(ctx, repository, sha)
	switch {
	case err == nil:
		out.Head = &h
	case !errors.Is(err, store.ErrNotFound):
		return out, err
	}
	if out.Pulls, err = t.PullsByHead(ctx, repository, sha); err != nil {
		return out, err
	}
	rows, err := t.VerdictsByHead(ctx, repository, sha, 100)
	if err != nil {
		return out, err
	}
	seen := map[string]bool{}
	var blocked, passed []Verdict
	for _, r := range rows {
		if seen[r.Line] {
			continue
		}
		seen[r.Line] = true
		v, err := f.verdict(ctx, t, r)
		if err != nil {
			return out, err
		}
		if v.Conclusion == verdict.Blocked {
			blocked = append(blocked, v)
		} else {
			passed = append(passed, v)
		}
	}
	out.Verdicts = append(blocked, passed...)
	if out.Head == nil && len(out.Verdicts) == 0 && len(out.Pulls) == 0 {
		return out, store.ErrNotFound
	}
	return out, nil
}
