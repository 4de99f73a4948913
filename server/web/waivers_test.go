package web_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/seedtest"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/report/figures"
)

// shelf is a book of waivers in memory.
type shelf []figures.Waiver

func (s shelf) pick(open bool) []figures.Waiver {
	return slices.DeleteFunc(slices.Clone(s), func(w figures.Waiver) bool { return w.State.Open() != open })
}

func (s shelf) Open(context.Context) ([]figures.Waiver, error) { return s.pick(true), nil }

func (s shelf) Ended(_ context.Context, after string, limit int) ([]figures.Waiver, error) {
	all := s.pick(false)
	i := slices.IndexFunc(all, func(w figures.Waiver) bool { return w.ID == after })
	all = all[i+1:]
	return all[:min(len(all), limit)], nil
}

func (s shelf) Waiver(_ context.Context, id string) (figures.Waiver, error) {
	i := slices.IndexFunc(s, func(w figures.Waiver) bool { return w.ID == id })
	if i < 0 {
		return figures.Waiver{}, fmt.Errorf("waiver %q: %w", id, figures.ErrNotFound)
	}
	return s[i], nil
}

func (s shelf) OfFinding(_ context.Context, repository, fingerprint, content string) ([]figures.Waiver, error) {
	return slices.DeleteFunc(slices.Clone(s), func(w figures.Waiver) bool {
		return w.Repository != repository || w.Finding.Fingerprint != fingerprint || w.Finding.Content != content
	}), nil
}

// book is northgate's waivers.
func book(s *site) shelf {
	now := seedtest.Today
	day := 24 * time.Hour
	end := func(days int) time.Time {
		t := now.Add(time.Duration(days) * day)
		return time.Date(t.Year(), t.Month(), t.Day(), 23, 59, 59, 0, time.UTC)
	}
	digest := func(n int) string { return fmt.Sprintf("sha256:%064x", 0x7be10d55<<8+n) }
	tomasz := figures.Approval{Person: figures.Person{ID: "77", Login: "tomasz-w"}, For: "payments-leads", At: now.Add(-4 * time.Minute)}
	security := figures.Approval{Person: figures.Person{ID: "78", Login: "r-okafor"}, For: "security", At: now.Add(-20 * day)}
	rows, err := s.Store.For(s.Account).Findings(context.Background(), store.FindingFilter{}, 200)
	if err != nil {
		panic(err)
	}
	some := func(i int) (string, figures.Waived) {
		r := rows[(i*5+3)%len(rows)]
		return r.Repository, waived(r)
	}
	inPull, err := s.Store.For(s.Account).OpenFindings(context.Background(), "90001", "pull/1482")
	if err != nil {
		panic(err)
	}
	key := slices.IndexFunc(inPull, func(f finding.Finding) bool {
		return f.Type == "secrets/stripe-secret-key" && f.Severity == finding.High
	})
	out := shelf{
		{ID: "W-9F2CHB", Digest: digest(1), State: figures.WaiverPending, Kind: "accepted-risk", Repository: "90001", Pull: 1482, Reason: "Key is revoked, history rewrite is planned for Monday",
			Finding: waived(store.FindingRow{Finding: inPull[key]}), Requester: figures.Person{ID: "501", Login: "jlindqvist"}, Requested: now.Add(-8 * time.Minute),
			Until: end(14), Lapses: now.Add(7*day - time.Hour), Needed: 2, Approvals: []figures.Approval{tomasz}, Who: "One of @northgate/security"},
		{ID: "W-RC61VD", Digest: digest(2), State: figures.WaiverPending, Kind: "deferred", Reason: "Base image moves to the internal registry in sprint 48",
			Requester: figures.Person{ID: "502", Login: "ines-k"}, Requested: now.Add(-2 * day), Until: end(30), Lapses: now.Add(5*day - 2*time.Hour), Needed: 1},
	}
	out[1].Repository, out[1].Finding = some(2)

	for i := range 23 {
		out = append(out, figures.Waiver{
			ID: fmt.Sprintf("W-7QF2M%c", 'A'+i), Digest: digest(10 + i), State: figures.WaiverActive, Kind: []string{"accepted-risk", "test-code", "mitigated", "deferred", "false-positive"}[i%5],
			Reason:    "Isolated network, replaced with the next release of the client",
			Requester: figures.Person{Login: "ines-k"}, Requested: now.Add(-time.Duration(10+i) * day), Until: end(2 + i*i%40), Needed: 1 + i%2, Approvals: []figures.Approval{security, tomasz}[:1+i%2], Renewals: i % 4,
		})
		out[len(out)-1].Repository, out[len(out)-1].Finding = some(i)
	}
	for i := range 70 {
		state := []figures.WaiverState{figures.WaiverExpired, figures.WaiverRevoked, figures.WaiverRejected, figures.WaiverResolved, figures.WaiverLapsed, figures.WaiverSuperseded}[i%6]
		out = append(out, figures.Waiver{
			ID: fmt.Sprintf("W-END%03d", i), Digest: digest(100 + i), State: state, Kind: "accepted-risk", Reason: "It was needed for the migration of the old data", Needed: 1,
			Requester: figures.Person{Login: "h-brandt"}, Requested: now.Add(-time.Duration(60+i) * day),
			Until: now.Add(-time.Duration(i) * day), Ended: now.Add(-time.Duration(i) * day), EndedBy: figures.Person{Login: "r-okafor"}, EndReason: "The finding is gone", Approvals: []figures.Approval{security},
		})
		out[len(out)-1].Repository, out[len(out)-1].Finding = some(i + 7)
	}
	return out
}

func waived(r store.FindingRow) figures.Waived {
	f := r.Finding
	return figures.Waived{ID: f.ID, Fingerprint: f.Fingerprint, Content: f.Content, Title: f.Title, Path: f.Path, Severity: f.Severity}
}
