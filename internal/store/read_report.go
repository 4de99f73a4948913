package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
)

// What report pages read. None of these counts findings one by one over an account: see commit_report.go.

// AccountByLogin is the account that has this login, or had it last, in any case; ErrNotFound. Whoever shows more
// of it than its id compares the login with Details first, since the account may have another by now.
func (s *Store) AccountByLogin(ctx context.Context, login string) (name.Account, error) {
	var out name.Account
	err := s.everywhere(ctx, "account", func(account name.Account, _ []string) error {
		out = account
		return nil
	}, 0, `SELECT account FROM known_name WHERE noun = 'account' AND name = $1 ORDER BY seen_at DESC, account LIMIT 1`, strings.ToLower(column(login)))
	if err == nil && out.IsZero() {
		err = fmt.Errorf("account %q: %w", login, ErrNotFound)
	}
	return out, err
}

// RepositoryByName is the repository that has this name (without its owner), or had it last, in any case;
// ErrNotFound.
func (t *Tenant) RepositoryByName(ctx context.Context, short string) (Repository, error) {
	var id string
	found, err := t.get(ctx, "repository", []any{&id}, `SELECT id FROM known_name WHERE account = $1 AND noun = 'repository' AND name = $2`, strings.ToLower(column(short)))
	if err != nil {
		return Repository{}, err
	}
	if !found {
		return Repository{}, fmt.Errorf("repository %q: %w", short, ErrNotFound)
	}
	return t.Repository(ctx, id)
}

// AllRepositories are the account's repositories, those that the App no longer covers too, by name and id.
func (t *Tenant) AllRepositories(ctx context.Context) ([]Repository, error) {
	return t.repositories(ctx, `SELECT `+repositoryColumns+` FROM repository WHERE account = $1 ORDER BY full_name, id`)
}

// LineState is a line and its newest verdict.
type LineState struct {
	Repository, Name string
	Head             name.Commit
	AuditedAt        time.Time // zero: never
	Verdict          string    // its id, "" for none
	Conclusion       string
	JudgedAt         time.Time
}

const lineStateColumns = `repository, name, head, audited_at, verdict, conclusion, judged_at`

func (t *Tenant) lineStates(ctx context.Context, statement string, args ...any) ([]LineState, error) {
	var out []LineState
	err := t.query(ctx, "lines", func(rows *sql.Rows) error {
		var l LineState
		var head string
		var verdict, conclusion sql.NullString
		var audited, judged sql.NullInt64
		if err := rows.Scan(&l.Repository, &l.Name, &head, &audited, &verdict, &conclusion, &judged); err != nil {
			return err
		}
		if err := commits("line", l.Repository+" "+l.Name, parse{&l.Head, head}); err != nil {
			return err
		}
		l.Verdict, l.Conclusion = verdict.String, conclusion.String
		if audited.Valid {
			l.AuditedAt = fromMicros(audited.Int64)
		}
		if judged.Valid {
			l.JudgedAt = fromMicros(judged.Int64)
		}
		out = append(out, l)
		return nil
	}, statement, args...)
	return out, err
}

// DefaultLines are the default branches of the account's repositories, as far as they were looked at, by
// repository.
func (t *Tenant) DefaultLines(ctx context.Context) ([]LineState, error) {
	return t.lineStates(ctx, `SELECT `+lineStateColumns+` FROM line WHERE account = $1 AND name = $2 ORDER BY repository`, DefaultLine)
}

// maxNames is how many names one query takes.
const maxNames = 500

// LinesNamed are the named lines of a repository, as far as they are there; at most 500 names.
func (t *Tenant) LinesNamed(ctx context.Context, repository string, names []string) ([]LineState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	names = names[:min(len(names), maxNames)]
	return t.lineStates(ctx, `SELECT `+lineStateColumns+` FROM line WHERE account = $1 AND repository = $2 AND name IN (`+list(3, len(names))+`) ORDER BY name`,
		append([]any{repository}, anys(names)...)...)
}

// OpenCount is how many findings of a severity are open on a line, and since when the oldest of them.
type OpenCount struct {
	Repository string
	Severity   finding.Severity
	Open       int
	Oldest     time.Time
}

// OpenCounts are those of the default branches, by repository and severity. A severity without any is left out.
func (t *Tenant) OpenCounts(ctx context.Context) ([]OpenCount, error) {
	return t.openCounts(ctx, `SELECT repository, severity, open, oldest FROM open_count
		WHERE account = $1 AND line = $2 AND open > 0 ORDER BY repository, severity`, DefaultLine)
}

// OpenCountsOf are those of one line.
func (t *Tenant) OpenCountsOf(ctx context.Context, repository, line string) ([]OpenCount, error) {
	return t.openCounts(ctx, `SELECT repository, severity, open, oldest FROM open_count
		WHERE account = $1 AND line = $2 AND repository = $3 AND open > 0 ORDER BY severity`, line, repository)
}

func (t *Tenant) openCounts(ctx context.Context, statement string, args ...any) ([]OpenCount, error) {
	var out []OpenCount
	err := t.query(ctx, "open counts", func(rows *sql.Rows) error {
		var c OpenCount
		var oldest sql.NullInt64
		if err := rows.Scan(&c.Repository, &c.Severity, &c.Open, &oldest); err != nil {
			return err
		}
		if oldest.Valid {
			c.Oldest = fromMicros(oldest.Int64)
		}
		out = append(out, c)
		return nil
	}, statement, args...)
	return out, err
}

// TypeCount is how many findings of a type are open on default branches.
type TypeCount struct {
	Type  string
	Worst finding.Severity
	Open  int
}

// OpenTypes are the types of most weight: the worst severity first, then the most findings; at most limit.
func (t *Tenant) OpenTypes(ctx context.Context, limit int) ([]TypeCount, error) {
	var out []TypeCount
	err := t.query(ctx, "open counts", func(rows *sql.Rows) error {
		var c TypeCount
		err := rows.Scan(&c.Type, &c.Worst, &c.Open)
		out = append(out, c)
		return err
	}, `SELECT type, MAX(severity) AS worst, SUM(open) AS n FROM type_count
		WHERE account = $1 AND open <> 0 GROUP BY type HAVING SUM(open) > 0 ORDER BY worst DESC, n DESC, type LIMIT $2`, max(limit, 0))
	return out, err
}

// DayCount is what one day brought.
type DayCount struct {
	Day              int64 // since 1970, UTC
	Severity         finding.Severity
	Opened, Resolved int
}

// Days are what each day since from brought on the account's default branches, by day and severity. A finding
// that changed its severity was resolved in one and opened in the other.
func (t *Tenant) Days(ctx context.Context, from int64) ([]DayCount, error) {
	return t.days(ctx, `SELECT day, severity, SUM(opened), SUM(resolved) FROM day_count WHERE account = $1 AND day >= $2
		GROUP BY day, severity ORDER BY day, severity`, from)
}

func (t *Tenant) days(ctx context.Context, statement string, args ...any) ([]DayCount, error) {
	var out []DayCount
	err := t.query(ctx, "day counts", func(rows *sql.Rows) error {
		var d DayCount
		err := rows.Scan(&d.Day, &d.Severity, &d.Opened, &d.Resolved)
		out = append(out, d)
		return err
	}, statement, args...)
	return out, err
}

// FindingRow is a finding as it stands on a line.
type FindingRow struct {
	Repository, Line      string
	Finding               finding.Finding
	Open                  bool
	FirstSeen             time.Time
	LastChanged, Resolved time.Time // Resolved is zero while it is open
}

const findingRowColumns = `repository, line, fingerprint, content, body, state, first_seen, last_changed, resolved_at`

func (t *Tenant) findingRows(ctx context.Context, statement string, args ...any) ([]FindingRow, error) {
	var out []FindingRow
	err := t.query(ctx, "findings", func(rows *sql.Rows) error {
		var r FindingRow
		var fingerprint, content, state string
		var body sql.RawBytes
		var first, last int64
		var resolved sql.NullInt64
		if err := rows.Scan(&r.Repository, &r.Line, &fingerprint, &content, &body, &state, &first, &last, &resolved); err != nil {
			return err
		}
		err := canon.Unmarshal(body, &r.Finding)
		if err == nil && (r.Finding.Fingerprint != fingerprint || r.Finding.Content != content) {
			err = errors.New("the body is of another finding")
		}
		if err != nil {
			return &CorruptError{Noun: "finding", Key: fingerprint, Cause: err}
		}
		r.Open, r.FirstSeen, r.LastChanged = state == "open", fromMicros(first), fromMicros(last)
		if resolved.Valid {
			r.Resolved = fromMicros(resolved.Int64)
		}
		out = append(out, r)
		return nil
	}, statement, args...)
	return out, err
}

// FindingFilter selects findings of default branches.
type FindingFilter struct {
	Repository string // "": all
	Resolved   bool   // the resolved ones instead of the open ones
	Severity   *finding.Severity
	Type       string // "": all
	After      *FindingKey
}

// FindingKey is a place in the order of Findings.
type FindingKey struct {
	Severity                         finding.Severity
	FirstSeen                        int64 // microseconds since 1970
	Repository, Fingerprint, Content string
}

// Key is the row's place in the order of Findings.
func (r FindingRow) Key() FindingKey {
	return FindingKey{r.Finding.Severity, r.FirstSeen.UnixMicro(), r.Repository, r.Finding.Fingerprint, r.Finding.Content}
}

// Findings are the findings of default branches that a filter selects, the most severe first and the newest first
// within a severity, from after Filter.After on, at most limit.
func (t *Tenant) Findings(ctx context.Context, f FindingFilter, limit int) ([]FindingRow, error) {
	state := "open"
	if f.Resolved {
		state = "resolved"
	}
	statement := `SELECT ` + findingRowColumns + ` FROM finding WHERE account = $1 AND line = $2 AND state = $3`
	args := []any{DefaultLine, state}
	with := func(condition string, values ...any) {
		statement += fmt.Sprintf(condition, list(len(args)+2, len(values)))
		args = append(args, values...)
	}
	if f.Repository != "" {
		with(` AND repository = %s`, f.Repository)
	}
	if f.Severity != nil {
		with(` AND severity = %s`, int64(*f.Severity))
	}
	if f.Type != "" {
		with(` AND type = %s`, column(f.Type))
	}
	if k := f.After; k != nil {
		with(` AND (severity, first_seen, repository, fingerprint, content) < (%s)`, int64(k.Severity), k.FirstSeen, column(k.Repository), column(k.Fingerprint), column(k.Content))
	}
	with(` ORDER BY severity DESC, first_seen DESC, repository DESC, fingerprint DESC, content DESC LIMIT %s`, max(limit, 0))
	return t.findingRows(ctx, statement, args...)
}

// FindingByID are the findings of a repository whose id begins with what a person typed (finding.ParseID), on
// every line that knows them, the oldest sighting first; at most 200. Several findings can be among them.
func (t *Tenant) FindingByID(ctx context.Context, repository, id string) ([]FindingRow, error) {
	rows, err := t.findingRows(ctx, `SELECT `+findingRowColumns+` FROM finding WHERE account = $1 AND id >= $2 AND id <= $3 AND repository = $4
		ORDER BY id, first_seen, line LIMIT 200`, id, id+"~", repository)
	slices.SortStableFunc(rows, func(a, b FindingRow) int { return a.FirstSeen.Compare(b.FirstSeen) })
	return rows, err
}

// RepositoriesOfFinding are the repositories that know a finding of this id, at most limit.
func (t *Tenant) RepositoriesOfFinding(ctx context.Context, id string, limit int) ([]string, error) {
	var out []string
	err := t.query(ctx, "findings", func(rows *sql.Rows) error {
		var r string
		err := rows.Scan(&r)
		out = append(out, r)
		return err
	}, `SELECT DISTINCT repository FROM finding WHERE account = $1 AND id >= $2 AND id <= $3 ORDER BY repository LIMIT $4`, id, id+"~", max(limit, 0))
	return out, err
}

func (t *Tenant) verdicts(ctx context.Context, statement string, args ...any) ([]Verdict, error) {
	var out []Verdict
	err := t.query(ctx, "verdicts", func(rows *sql.Rows) error {
		v, err := scanVerdict(rows)
		out = append(out, v)
		return err
	}, statement, args...)
	return out, err
}

// RecentVerdicts are the account's newest verdicts, the newest first.
func (t *Tenant) RecentVerdicts(ctx context.Context, limit int) ([]Verdict, error) {
	return t.verdicts(ctx, `SELECT `+verdictColumns+` FROM verdict WHERE account = $1 ORDER BY at DESC LIMIT $2`, max(limit, 0))
}

// LineVerdicts are the newest verdicts on a line, the newest first.
func (t *Tenant) LineVerdicts(ctx context.Context, repository, line string, limit int) ([]Verdict, error) {
	return t.verdicts(ctx, `SELECT `+verdictColumns+` FROM verdict WHERE account = $1 AND repository = $2 AND line = $3
		ORDER BY at DESC, version DESC, id LIMIT $4`, repository, line, max(limit, 0))
}

// VerdictsByHead are the verdicts on a commit, the newest first.
func (t *Tenant) VerdictsByHead(ctx context.Context, repository string, head name.Commit, limit int) ([]Verdict, error) {
	return t.verdicts(ctx, `SELECT `+verdictColumns+` FROM verdict WHERE account = $1 AND repository = $2 AND head = $3
		ORDER BY at DESC, version DESC, id LIMIT $4`, repository, head.String(), max(limit, 0))
}

// EntryRow is an entry and its place in the ledger.
type EntryRow struct {
	Seq  int64 // -1 until the ledger holds it
	Body []byte
}

// EntriesAt are the entries that a source got in one change, in their order; at most MaxEntries.
func (t *Tenant) EntriesAt(ctx context.Context, source string, at time.Time) ([]EntryRow, error) {
	return t.entryRows(ctx, `SELECT COALESCE(seq, -1), body FROM outbox WHERE account = $1 AND source = $2 AND at = $3 ORDER BY sseq LIMIT $4`,
		source, at.UnixMicro(), MaxEntries)
}

// EntriesFrom are the first entries that a source got at a time or later, in their order.
func (t *Tenant) EntriesFrom(ctx context.Context, source string, from time.Time, limit int) ([]EntryRow, error) {
	return t.entryRows(ctx, `SELECT COALESCE(seq, -1), body FROM outbox WHERE account = $1 AND source = $2 AND at >= $3 ORDER BY at, sseq LIMIT $4`,
		source, from.UnixMicro(), max(limit, 0))
}

func (t *Tenant) entryRows(ctx context.Context, statement string, args ...any) ([]EntryRow, error) {
	var out []EntryRow
	err := t.query(ctx, "outbox", func(rows *sql.Rows) error {
		var r EntryRow
		err := rows.Scan(&r.Seq, &r.Body)
		out = append(out, r)
		return err
	}, statement, args...)
	return out, err
}

// Waiting is how many entries the ledger does not hold yet, and since when the oldest of them waits.
func (t *Tenant) Waiting(ctx context.Context) (n int, oldest time.Time, err error) {
	var at sql.NullInt64
	_, err = t.get(ctx, "outbox", []any{&n, &at}, `SELECT COUNT(*), MIN(at) FROM outbox WHERE account = $1 AND seq IS NULL`)
	if at.Valid {
		oldest = fromMicros(at.Int64)
	}
	return n, oldest, err
}

// AccountOpenWaivers are the account's waivers that wait for approval or are active, suspended ones too, the first to
// end first, at most limit.
func (t *Tenant) AccountOpenWaivers(ctx context.Context, limit int) ([]Waiver, error) {
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND state IN ('pending', 'active') ORDER BY until_at, id LIMIT $2`, max(limit, 0))
}

// WaiverKey is a place in the order of EndedWaivers.
type WaiverKey struct {
	Changed int64 // microseconds since 1970
	ID      string
}

// EndedWaivers are the account's waivers that have ended, those that changed last first, from after a place on.
func (t *Tenant) EndedWaivers(ctx context.Context, after *WaiverKey, limit int) ([]Waiver, error) {
	if after == nil {
		return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND state NOT IN ('pending', 'active')
			ORDER BY changed_at DESC, id DESC LIMIT $2`, max(limit, 0))
	}
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND state NOT IN ('pending', 'active') AND (changed_at, id) < ($2, $3)
		ORDER BY changed_at DESC, id DESC LIMIT $4`, after.Changed, column(after.ID), max(limit, 0))
}

// TitleKey is a finding of a repository, on whatever line.
type TitleKey struct{ Repository, Fingerprint string }

// FindingTitles are the titles of findings by their ids, as far as they are there.
func (t *Tenant) FindingTitles(ctx context.Context, ids []string) (map[TitleKey]string, error) {
	out := map[TitleKey]string{}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	for part := range slices.Chunk(ids, batch(t.db.Engine, 1)) {
		rows, err := t.findingRows(ctx, `SELECT `+findingRowColumns+` FROM finding WHERE account = $1 AND id IN (`+list(2, len(part))+`)`, anys(part)...)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[TitleKey{r.Repository, r.Finding.Fingerprint}] = r.Finding.Title
		}
	}
	return out, nil
}
