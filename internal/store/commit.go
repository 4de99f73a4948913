package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/ledger"
)

// Commit applies a change in one transaction, or does nothing.
//
// Within the transaction each entry gets the next number of its source (SSeq, from 1, without gaps), its body
// becomes final, and it is put in the outbox. The caller's value is not touched.
//
// Commit is idempotent by entry id. After ErrUnavailable, or an ended context, it is not known whether the
// change took effect: commit the same value again. If it had taken effect the second call does nothing and
// returns nil. ErrDuplicate means that an id was used for something else.
//
// It returns ErrNoEntry, ErrInvalid or *TooLargeError for a change that never can be committed, ErrStale when
// the line has moved on, ErrDuplicateDelivery and ErrAlreadyDone when a delivery was received or processed
// before, ErrNotFound when a repository, a document of a verdict, a delivery, a wanted head, a session, or an open
// finding that is to be resolved is not there, and ErrUnavailable when the database could not do it now.
func (t *Tenant) Commit(ctx context.Context, c Change) error {
	if t.account.IsZero() {
		return ErrNoAccount
	}
	if err := c.check(t.account); err != nil {
		return fmt.Errorf("change: %w", err)
	}
	p, err := c.prepare()
	if err != nil {
		return fmt.Errorf("change: %w", err)
	}
	err = t.write(ctx, "change", func(w *writer) error { return w.apply(ctx, p) })
	gone := c.Sessions != nil && errors.Is(err, ErrNotFound) // ended: by this change, or by another
	if gone || errors.Is(err, ErrStale) || errors.Is(err, database.ErrUnique) || errors.Is(err, ErrDuplicateDelivery) || errors.Is(err, ErrAlreadyDone) {
		return t.settle(ctx, c, err)
	}
	return err
}

// settle finds out whether a change that was refused is one that took effect before: then all its entries are
// there, byte for byte.
func (t *Tenant) settle(ctx context.Context, c Change, refusal error) error {
	events := make(map[string]ledger.Event, len(c.Entries))
	args := make([]any, len(c.Entries))
	for i, e := range c.Entries {
		events[e.ID] = e
		args[i] = e.ID
	}
	same, other := 0, 0
	for part := range slices.Chunk(args, batch(t.db.Engine, 1)) {
		err := t.query(ctx, "outbox", func(rows *sql.Rows) error {
			var (
				id, source string
				sseq       int64
				stored     []byte
			)
			if err := rows.Scan(&id, &source, &sseq, &stored); err != nil {
				return err
			}
			e := events[id]
			e.SSeq = uint64(sseq)
			body, err := e.Body()
			if err != nil {
				return err
			}
			if source == e.Source && bytes.Equal(body, stored) {
				same++
			} else {
				other++
			}
			return nil
		}, `SELECT id, source, sseq, body FROM outbox WHERE account = $1 AND id IN (`+list(2, len(part))+`)`, part...)
		if err != nil {
			return err
		}
	}
	switch {
	case same == len(c.Entries):
		return nil
	case same+other > 0, errors.Is(refusal, database.ErrUnique):
		return fmt.Errorf("change: %w (%w)", ErrDuplicate, refusal)
	}
	return refusal
}

// prepared is a change in the form and order in which it is written. All changes are written in one order,
// table by table and key by key, so that two at once cannot wait for each other.
type prepared struct {
	Change
	open, resolved [][]any // rows
	documents      []packed
	sources        []string
	events         map[string][]ledger.Event // by source

	repositoryRows, pullRows [][]any
	heads                    []headStep
	delivery                 packed
}

// mostSSeq is the greatest number that an entry may have.
const mostSSeq = 1<<53 - 1

// prepare does all that needs no transaction.
func (c Change) prepare() (prepared, error) {
	p := prepared{Change: c, events: map[string][]ledger.Event{}}
	findings := slices.Clone(c.Findings)
	slices.SortFunc(findings, func(a, b FindingChange) int {
		return strings.Compare(a.Finding.Fingerprint+"\x00"+a.Finding.Content, b.Finding.Fingerprint+"\x00"+b.Finding.Content)
	})
	for _, f := range findings {
		if f.Resolved {
			p.resolved = append(p.resolved, []any{f.Finding.Fingerprint, f.Finding.Content})
			continue
		}
		body, err := canon.Marshal(f.Finding)
		if err != nil {
			return prepared{}, fmt.Errorf("finding %s: %w", f.Finding.ID, err)
		}
		p.open = append(p.open, []any{
			f.Finding.Fingerprint, f.Finding.Content, f.Finding.ID, column(f.Finding.Type),
			int64(f.Finding.Severity), column(f.Finding.Path), body,
		})
	}
	total := 0
	for _, d := range c.Documents {
		doc, err := pack(d)
		if err != nil {
			return prepared{}, fmt.Errorf("document %s: %w", d.Kind, err)
		}
		p.documents = append(p.documents, doc)
		total += len(doc.body)
	}
	if total > MaxStoredBytes {
		return prepared{}, &TooLargeError{Noun: "bytes of compressed documents", Got: total, Most: MaxStoredBytes}
	}
	slices.SortStableFunc(p.documents, func(a, b packed) int { return strings.Compare(a.digest, b.digest) })
	p.documents = slices.CompactFunc(p.documents, func(a, b packed) bool { return a.digest == b.digest })
	for _, e := range c.Entries {
		// The number is not known yet; one of the greatest length tells now whether the body will fit.
		e.SSeq = mostSSeq
		if _, err := e.Body(); err != nil {
			return prepared{}, fmt.Errorf("entry %s: %w", e.ID, err)
		}
		if p.events[e.Source] == nil {
			p.sources = append(p.sources, e.Source)
		}
		p.events[e.Source] = append(p.events[e.Source], e)
	}
	slices.Sort(p.sources)
	if err := p.prepareGitHub(); err != nil {
		return prepared{}, err
	}
	return p, nil
}

// column makes text of outside origin fit for a column that repeats a part of the body: PostgreSQL takes
// neither NUL nor invalid UTF-8.
func column(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
}

func (w *writer) apply(ctx context.Context, p prepared) error {
	steps := []func(context.Context, prepared) error{
		w.applyDelivery, w.applyAccount, w.applyInstallation, w.applyRepositories, w.applyNames, w.applyPulls, w.applyMergeGroup,
		w.applyCommand, w.applyWaivers, w.applyHeads, w.applyLine, w.applyFindings, w.applyDocuments, w.applyAudit,
		w.applyVerdict, w.applySessions, w.applyEntries,
	}
	for _, step := range steps {
		if err := step(ctx, p); err != nil {
			if errors.Is(err, database.ErrReference) {
				return fmt.Errorf("%w: %w", ErrNotFound, err)
			}
			return err
		}
	}
	return nil
}

func (w *writer) applyAccount(ctx context.Context, p prepared) error {
	if p.Account == nil {
		return nil
	}
	_, err := w.exec(ctx, "account", `INSERT INTO account (account, login, created_at) VALUES ($1, $2, $3)
		ON CONFLICT (account) DO UPDATE SET login = excluded.login`, p.Account.Login, p.Time.UnixMicro())
	return err
}

// applyLine is the compare-and-set. It comes before all that the line's version guards, so that of two
// changes at once the second waits here, and finds the version gone.
func (w *writer) applyLine(ctx context.Context, p prepared) error {
	if p.Expect == nil {
		return nil
	}
	var head, tree, at any // nil leaves what is there
	if l := p.Line; l != nil {
		head, tree, at = l.Head.String(), l.Tree, micros(l.AuditedAt)
	}
	noun := "line " + p.Expect.Repository + " " + p.Expect.Line
	var n int
	var err error
	if p.Expect.Version == 0 {
		n, err = w.exec(ctx, noun, `INSERT INTO line (account, repository, name, version, head, tree, audited_at)
			VALUES ($1, $2, $3, 1, COALESCE($4, ''), COALESCE($5, ''), $6) ON CONFLICT (account, repository, name) DO NOTHING`,
			p.Expect.Repository, p.Expect.Line, head, tree, at)
	} else {
		n, err = w.exec(ctx, noun, `UPDATE line SET version = version + 1,
				head = COALESCE($5, head), tree = COALESCE($6, tree), audited_at = COALESCE($7, audited_at)
			WHERE account = $1 AND repository = $2 AND name = $3 AND version = $4`,
			p.Expect.Repository, p.Expect.Line, p.Expect.Version, head, tree, at)
	}
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("%s at version %d: %w", noun, p.Expect.Version, ErrStale)
	}
	return nil
}

func (w *writer) applyFindings(ctx context.Context, p prepared) error {
	if len(p.Findings) == 0 {
		return nil
	}
	at := p.Time.UnixMicro()
	before, err := w.before(ctx, p)
	if err != nil {
		return err
	}
	_, err = w.tuples(ctx, "findings",
		`INSERT INTO finding (account, repository, line, first_seen, last_changed, state,
			fingerprint, content, id, type, severity, path, body) VALUES %s
		ON CONFLICT (account, repository, line, fingerprint, content) DO UPDATE SET
			type = excluded.type, severity = excluded.severity, path = excluded.path, body = excluded.body,
			state = excluded.state, last_changed = excluded.last_changed, resolved_at = NULL`,
		[]any{p.Expect.Repository, p.Expect.Line, at, at, "open"}, p.open)
	if err != nil {
		return err
	}
	n, err := w.listed(ctx, "findings",
		`UPDATE finding SET state = 'resolved', resolved_at = $4, last_changed = $4
		WHERE account = $1 AND repository = $2 AND line = $3 AND state = 'open' AND (fingerprint, content) IN (VALUES %s)`,
		[]any{p.Expect.Repository, p.Expect.Line, at}, p.resolved)
	if err != nil {
		return err
	}
	if n != len(p.resolved) {
		return fmt.Errorf("findings: %d of the %d to resolve are not open on this line: %w", len(p.resolved)-n, len(p.resolved), ErrNotFound)
	}
	return w.applyCounts(ctx, p, p.tally(before))
}

func (w *writer) applyDocuments(ctx context.Context, p prepared) error {
	rows := make([][]any, len(p.documents))
	for i, d := range p.documents {
		rows[i] = []any{d.digest, d.kind, d.encoding, int64(d.size), d.body}
	}
	_, err := w.tuples(ctx, "documents",
		`INSERT INTO document (account, created_at, digest, kind, encoding, size, body) VALUES %s
		ON CONFLICT (account, digest) DO NOTHING`, []any{p.Time.UnixMicro()}, rows)
	return err
}

func (w *writer) applyAudit(ctx context.Context, p prepared) error {
	a := p.Audit
	if a == nil {
		return nil
	}
	stats := []byte(a.Stats)
	if len(stats) == 0 {
		stats = []byte("null")
	}
	_, err := w.exec(ctx, "audit "+a.ID,
		`INSERT INTO audit (account, id, repository, line, head, base, started, finished, stats)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		a.ID, a.Repository, a.Line, a.Head.String(), a.Base.String(), a.Started.UnixMicro(), a.Finished.UnixMicro(), stats)
	return err
}

// applyVerdict keeps the first of equal verdicts: an id is the digest of everything that the verdict says.
func (w *writer) applyVerdict(ctx context.Context, p prepared) error {
	v := p.Verdict
	if v == nil {
		return nil
	}
	version := int64(0)
	if p.Expect != nil {
		version = p.Expect.Version + 1
	}
	_, err := w.exec(ctx, "verdict "+v.ID,
		`INSERT INTO verdict (account, id, short, repository, line, version, head, base, conclusion, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (account, id) DO NOTHING`,
		v.ID, typed(v.ID), v.Repository, v.Line, version, v.Head.String(), v.Base.String(), v.Conclusion, v.Time.UnixMicro())
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, "line "+v.Line, `UPDATE line SET verdict = $4, conclusion = $5, judged_at = $6
		WHERE account = $1 AND repository = $2 AND name = $3 AND COALESCE(judged_at, 0) <= $6`,
		v.Repository, v.Line, v.ID, v.Conclusion, v.Time.UnixMicro())
	return err
}

// applyEntries numbers the entries and puts them in the outbox. The counter's row stays locked until the
// transaction ends, so numbers become visible in their order.
func (w *writer) applyEntries(ctx context.Context, p prepared) error {
	var rows [][]any
	for _, source := range p.sources {
		events := p.events[source]
		var last int64
		err := w.query(ctx, "stream "+source, func(r *sql.Rows) error { return r.Scan(&last) },
			`INSERT INTO stream (account, source, sseq) VALUES ($1, $2, $3)
			ON CONFLICT (account, source) DO UPDATE SET sseq = stream.sseq + excluded.sseq RETURNING sseq`,
			source, int64(len(events)))
		if err != nil {
			return err
		}
		for i, e := range events {
			e.SSeq = uint64(last) - uint64(len(events)-1-i)
			body, err := e.Body()
			if err != nil {
				return fmt.Errorf("entry %s: %w", e.ID, err)
			}
			rows = append(rows, []any{e.ID, e.Source, int64(e.SSeq), e.Time.UnixMicro(), body})
		}
	}
	_, err := w.tuples(ctx, "outbox", `INSERT INTO outbox (account, id, source, sseq, at, body) VALUES %s`, nil, rows)
	return err
}
