package store

import (
	"cmp"
	"context"
	"database/sql"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"
)

// What Commit keeps beside the state, so that a report page reads figures instead of counting findings: how many
// are open, how many came and went a day, and every name that something had. It is written in the transaction of
// the change, so it never says something else than the findings do.

// DefaultLine is the line of a repository's default branch: the one that figures of an account are about.
const DefaultLine = "default"

// shards is over how many rows the writers of one day, or of one type, are spread.
const shards = 16

// class is a kind of findings.
type class struct {
	severity int64
	kind     string // the finding's type
}

// held is a finding as it stands before a change.
type held struct {
	class
	first int64
	open  bool
}

// count is what a change does to the open findings of a severity.
type count struct {
	delta  int64
	oldest any  // of those that were opened, NULL for none
	left   bool // some went: the oldest may be another now
}

// tally is what a change does to all counts.
type tally struct {
	open             map[int64]*count // by severity
	types            map[class]int64
	opened, resolved map[int64]int64 // by severity
}

// before reads the findings that a change is about, as they stand.
func (w *writer) before(ctx context.Context, p prepared) (map[[2]string]held, error) {
	// By fingerprint alone, which the key begins with: a join with pairs would read the whole line.
	var fingerprints []any
	for _, rows := range [][][]any{p.open, p.resolved} {
		for _, r := range rows {
			fingerprints = append(fingerprints, r[0])
		}
	}
	out := make(map[[2]string]held, len(fingerprints))
	for part := range slices.Chunk(fingerprints, batch(w.engine, 1)) {
		err := w.query(ctx, "findings", func(rows *sql.Rows) error {
			var k [2]string
			var h held
			var state string
			if err := rows.Scan(&k[0], &k[1], &h.kind, &h.severity, &h.first, &state); err != nil {
				return err
			}
			h.open = state == "open"
			out[k] = h
			return nil
		}, `SELECT fingerprint, content, type, severity, first_seen, state FROM finding
			WHERE account = $1 AND repository = $2 AND line = $3 AND fingerprint IN (`+list(4, len(part))+`)`,
			append([]any{p.Expect.Repository, p.Expect.Line}, part...)...)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tally compares a change with what it finds.
func (p prepared) tally(before map[[2]string]held) tally {
	t := tally{open: map[int64]*count{}, types: map[class]int64{}, opened: map[int64]int64{}, resolved: map[int64]int64{}}
	of := func(severity int64) *count {
		if t.open[severity] == nil {
			t.open[severity] = &count{}
		}
		return t.open[severity]
	}
	leave := func(h held) {
		c := of(h.severity)
		c.delta--
		c.left = true
		t.types[h.class]--
	}
	for _, r := range p.open {
		now := class{r[4].(int64), r[3].(string)}
		h, known := before[[2]string{r[0].(string), r[1].(string)}]
		if known && h.open && h.class == now {
			continue
		}
		first := p.Time.UnixMicro()
		if known {
			first = h.first
		}
		if known && h.open {
			leave(h)
		}
		if !known || !h.open || h.severity != now.severity {
			t.opened[now.severity]++
			if known && h.open {
				t.resolved[h.severity]++
			}
		}
		c := of(now.severity)
		c.delta++
		t.types[now]++
		if c.oldest == nil || first < c.oldest.(int64) {
			c.oldest = first
		}
	}
	for _, r := range p.resolved {
		if h := before[[2]string{r[0].(string), r[1].(string)}]; h.open {
			leave(h)
			t.resolved[h.severity]++
		}
	}
	return t
}

// applyCounts comes after the findings were written. Rows are written in one order, as everywhere.
func (w *writer) applyCounts(ctx context.Context, p prepared, t tally) error {
	var open [][]any
	for _, severity := range slices.Sorted(maps.Keys(t.open)) {
		c := t.open[severity]
		oldest := c.oldest
		if c.left { // it may have been the oldest
			var first sql.NullInt64
			err := w.query(ctx, "findings", func(r *sql.Rows) error { return r.Scan(&first) },
				`SELECT MIN(first_seen) FROM finding WHERE account = $1 AND repository = $2 AND line = $3 AND severity = $4 AND state = 'open'`,
				p.Expect.Repository, p.Expect.Line, severity)
			if err != nil {
				return err
			}
			// Of two times the upsert keeps the older; a time that takes the place of what is there has a minus before it.
			if oldest = nil; first.Valid {
				oldest = -first.Int64
			}
		}
		open = append(open, []any{severity, c.delta, oldest})
	}
	_, err := w.tuples(ctx, "open counts", `INSERT INTO open_count (account, repository, line, severity, open, oldest) VALUES %s
		ON CONFLICT (account, line, repository, severity) DO UPDATE SET open = open_count.open + excluded.open,
			oldest = CASE WHEN excluded.oldest < 0 THEN -excluded.oldest WHEN open_count.oldest < excluded.oldest THEN open_count.oldest ELSE excluded.oldest END`,
		[]any{p.Expect.Repository, p.Expect.Line}, open)
	if err != nil || p.Expect.Line != DefaultLine {
		return err
	}
	var types [][]any
	for c, delta := range t.types {
		if delta != 0 {
			types = append(types, []any{c.kind, c.severity, delta})
		}
	}
	slices.SortFunc(types, func(a, b []any) int {
		return cmp.Or(strings.Compare(a[0].(string), b[0].(string)), cmp.Compare(a[1].(int64), b[1].(int64)))
	})
	_, err = w.tuples(ctx, "type counts", `INSERT INTO type_count (account, shard, type, severity, open) VALUES %s
		ON CONFLICT (account, type, severity, shard) DO UPDATE SET open = type_count.open + excluded.open`,
		[]any{shard(p.Expect.Repository)}, types)
	if err != nil {
		return err
	}
	var days [][]any
	for severity := range int64(16) {
		if o, r := t.opened[severity], t.resolved[severity]; o != 0 || r != 0 {
			days = append(days, []any{severity, o, r})
		}
	}
	_, err = w.tuples(ctx, "day counts", `INSERT INTO day_count (account, day, shard, severity, opened, resolved) VALUES %s
		ON CONFLICT (account, day, severity, shard) DO UPDATE SET
			opened = day_count.opened + excluded.opened, resolved = day_count.resolved + excluded.resolved`,
		[]any{Day(p.Time), shard(p.Expect.Repository)}, days)
	return err
}

// Day counts the days since 1970 in UTC.
func Day(t time.Time) int64 { return t.UnixMicro() / (24 * time.Hour).Microseconds() }

func shard(repository string) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(repository)) // it cannot fail
	return int64(h.Sum32() % shards)
}

// applyNames remembers what things are called. Of an account a name that is told again counts as newer: when two
// accounts had one name, it leads to whom it was told of last.
func (w *writer) applyNames(ctx context.Context, p prepared) error {
	at := p.Time.UnixMicro()
	login := ""
	if i := p.Installation; i != nil && i.State != InstallationDeleted {
		login = i.Login
		// Whoever installs the App tells what the account is called.
		_, err := w.exec(ctx, "account", `INSERT INTO account (account, login, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (account) DO UPDATE SET login = excluded.login WHERE account.login <> excluded.login`, login, at)
		if err != nil {
			return err
		}
	}
	if p.Account != nil {
		login = p.Account.Login
	}
	if login != "" {
		_, err := w.exec(ctx, "name", `INSERT INTO known_name (account, noun, name, id, seen_at) VALUES ($1, 'account', $2, $1, $3)
			ON CONFLICT (account, noun, name) DO UPDATE SET seen_at = excluded.seen_at`, strings.ToLower(column(login)), at)
		if err != nil {
			return err
		}
	}
	var rows [][]any
	seen := map[string]bool{}
	for _, r := range p.Change.repositories() {
		n := strings.ToLower(column(r.ShortName()))
		if n != "" && !seen[n] {
			seen[n] = true
			rows = append(rows, []any{n, r.ID})
		}
	}
	slices.SortFunc(rows, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	_, err := w.tuples(ctx, "names", `INSERT INTO known_name (account, noun, seen_at, name, id) VALUES %s
		ON CONFLICT (account, noun, name) DO UPDATE SET id = excluded.id, seen_at = excluded.seen_at WHERE known_name.id <> excluded.id`,
		[]any{"repository", at}, rows)
	return err
}

// ShortName is the repository's name without its owner, as addresses of pages have it.
func (r Repository) ShortName() string {
	if r.Origin != nil && r.Origin.Name != "" {
		return r.Origin.Name
	}
	return r.FullName[strings.LastIndexByte(r.FullName, '/')+1:]
}
