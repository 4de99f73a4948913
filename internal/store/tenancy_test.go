package store_test

import (
	"crypto/rand"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// A tenant that knows every id of another's rows reads none and changes none.
func TestAnotherAccountsRowsCannotBeReachedByTheirIDs(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, victim *store.Tenant) {
		ctx := t.Context()
		doc := store.Document{Kind: "verdict", Body: []byte("{}")}
		c := change(t, victim, 0)
		c.Account = &store.Account{Login: "victim"}
		c.Line = &store.Line{Head: commit(1), Tree: "tree", AuditedAt: now}
		c.Findings = []store.FindingChange{{Finding: fnd("a.go", 1)}}
		c.Documents = []store.Document{doc}
		c.Audit = &store.Audit{ID: "audit", Repository: repo, Line: "default", Started: now, Finished: now}
		c.Verdict = &store.Verdict{ID: doc.Digest(), Repository: repo, Line: "default", Conclusion: "failure", Time: now}
		mustCommit(t, victim, c)
		must(t, victim.CachePut(ctx, now, map[string][]byte{"key": []byte("body")}))
		key, err := victim.ContentKey(ctx, now, rand.Reader)
		must(t, err)
		before := dump(t, s)

		thief := s.For(account(t, "5832310"))
		for name, read := range map[string]func() error{
			"account":    func() error { _, err := thief.Details(ctx); return err },
			"repository": func() error { _, err := thief.Repository(ctx, repo); return err },
			"document":   func() error { _, err := thief.Document(ctx, doc.Digest()); return err },
			"verdict":    func() error { _, err := thief.VerdictByID(ctx, doc.Digest()); return err },
			"short verdict": func() error {
				_, err := thief.VerdictByID(ctx, store.ShortVerdict(doc.Digest()))
				return err
			},
		} {
			if err := read(); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got error %v", name, err)
			}
		}
		if l, err := thief.Line(ctx, repo, "default"); err != nil || l.Version != 0 || l.Tree != "" {
			t.Errorf("line %+v, %v", l, err)
		}
		if fs, err := thief.OpenFindings(ctx, repo, "default"); err != nil || len(fs) != 0 {
			t.Errorf("findings %v, %v", fs, err)
		}
		if vs, err := thief.Verdicts(ctx, repo, 10); err != nil || len(vs) != 0 {
			t.Errorf("verdicts %v, %v", vs, err)
		}
		if m, err := thief.CacheGet(ctx, []string{"key"}); err != nil || len(m) != 0 {
			t.Errorf("cache %v, %v", m, err)
		}
		if p, err := thief.Pending(ctx, 10); err != nil || len(p) != 0 {
			t.Errorf("outbox %v, %v", p, err)
		}

		wantErr(t, thief.Sequenced(ctx, []ledger.Position{{ID: c.Entries[0].ID, Seq: 0}}), store.ErrNotFound)
		must(t, thief.CacheTouch(ctx, now.Add(240*time.Hour), []string{"key"}))
		if n, err := thief.CacheTrim(ctx, now.Add(240*time.Hour), 0); err != nil || n != 0 {
			t.Errorf("trimmed %d, %v", n, err)
		}
		stolen := change(t, thief, 1)
		stolen.Repository = nil
		wantErr(t, thief.Commit(ctx, stolen), store.ErrStale)
		resolve := change(t, thief, 0)
		resolve.Findings = []store.FindingChange{{Finding: fnd("a.go", 1), Resolved: true}}
		wantErr(t, thief.Commit(ctx, resolve), store.ErrNotFound)
		borrow := change(t, thief, 0) // a verdict on a document that only the victim has
		borrow.Verdict = c.Verdict
		wantErr(t, thief.Commit(ctx, borrow), store.ErrNotFound)
		wantErr(t, thief.Commit(ctx, c), store.ErrInvalid) // the victim's own change
		wantEqual(t, dump(t, s), before)

		// What the thief may write, under the same ids, is the thief's own.
		own := change(t, thief, 0)
		own.Repository.FullName = "thief/payments"
		own.Documents, own.Audit, own.Verdict = c.Documents, c.Audit, c.Verdict
		own.Entries[0].ID = c.Entries[0].ID
		mustCommit(t, thief, own)
		if k, err := thief.ContentKey(ctx, now, rand.Reader); err != nil || string(k) == string(key) {
			t.Errorf("the content key is shared, %v", err)
		}
		if r, err := victim.Repository(ctx, repo); err != nil || r.FullName != "octo-org/payments" {
			t.Errorf("the victim's repository is %+v, %v", r, err)
		}
	})
}

// state are the tables that only a Change may write.
var state = []string{"repository", "line", "finding", "document", "verdict", "audit", "stream",
	"delivery", "installation", "pull", "merge_group", "head", "waiver", "command", "session", "open_count", "type_count", "day_count", "known_name"}

// overAll are the queries over all tenants: they read an account and an id of the work that waits.
var overAll = []string{
	"SELECT DISTINCT account FROM outbox WHERE seq IS NULL ORDER BY account",
	"SELECT DISTINCT account FROM delivery WHERE body IS NOT NULL AND state <> 'received' AND received_at < $1 ORDER BY account",
	"SELECT account, guid FROM delivery WHERE state = 'received' AND received_at < $1 ORDER BY attempts, received_at, account, guid LIMIT $2",
	"SELECT account FROM known_name WHERE noun = 'account' AND name = $1 ORDER BY seen_at DESC, account LIMIT 1",
	"SELECT account, repository, sha FROM head WHERE wanted > done ORDER BY changed_at, account, repository, sha LIMIT $1",
	"SELECT account, repository, surface, CAST(id AS TEXT) FROM command WHERE NOT answered AND tries < 2000 AND at < $1 ORDER BY tries, at, account, id LIMIT $2",
	"SELECT account, id FROM waiver WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at, account, id LIMIT $2",
}

// entryless are the writes of state that need no entry: see the comment of the package.
var entryless = []string{
	"UPDATE delivery SET attempts = attempts + 1 WHERE account = $1 AND guid = $2 AND state = 'received' RETURNING attempts",
	"UPDATE delivery SET attempts = attempts - 1 WHERE account = $1 AND guid = $2 AND state = 'received' AND attempts > 0",
	"UPDATE command SET tries = tries + 1, answered = CASE WHEN $5 THEN TRUE ELSE answered END WHERE account = $1 AND repository = $2 AND surface = $3 AND id = $4",
	"UPDATE delivery SET body = NULL WHERE account = $1 AND state <> 'received' AND guid IN (VALUES %s)",
	"UPDATE session SET seen_at = $3, until_at = CASE WHEN CAST($4 AS BIGINT) > ends_at THEN ends_at ELSE $4 END WHERE account = $1 AND id = $2 AND seen_at < $3 AND until_at < $4 AND until_at > $3",
	"UPDATE session SET checked_at = $3 WHERE account = $1 AND id = $2 AND checked_at < $3",
	"DELETE FROM session WHERE account = $1 AND until_at <= $2 AND id IN (VALUES %s)",
}

// Reads the package's own source. Every statement must carry the account as $1, must run through the functions of
// sql.go, which put it there, and must write state in the commit files only, below Commit, which wants an entry.
func TestEveryStatementCarriesTheAccount(t *testing.T) {
	fset := token.NewFileSet()
	names, err := fs.Glob(os.DirFS("."), "*.go")
	must(t, err)
	statements := 0
	touched := map[string]bool{}
	for _, file := range names {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(fset, file, nil, 0)
		must(t, err)
		seen := map[ast.Node]bool{}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				direct := []string{"Query", "QueryContext", "QueryRow", "QueryRowContext", "Exec", "ExecContext", "Prepare", "PrepareContext"}
				if ok && slices.Contains(direct, sel.Sel.Name) && file != "sql.go" {
					t.Errorf("%s: a statement that does not go through sql.go", fset.Position(n.Pos()))
				}
				if ok && sel.Sel.Name == "everywhere" && !slices.ContainsFunc(n.Args, func(a ast.Expr) bool { return slices.Contains(overAll, flat(a)) }) {
					t.Errorf("%s: a query over all tenants that is not in the list of this test", fset.Position(n.Pos()))
				}
			case ast.Expr:
				if seen[n] {
					return true
				}
				text := flat(n)
				if text == "" {
					return true
				}
				ast.Inspect(n, func(in ast.Node) bool { seen[in] = true; return true })
				if !regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b`).MatchString(text) {
					return true
				}
				statements++
				if problem := judge(text, file, touched); problem != "" {
					t.Errorf("%s: %s:\n%s", fset.Position(n.Pos()), problem, text)
				}
			}
			return true
		})
	}
	for _, table := range tables {
		if !touched[table] {
			t.Errorf("no statement on table %s was seen: this test no longer reads the source rightly", table)
		}
	}
	if statements < 20 {
		t.Errorf("only %d statements were seen", statements)
	}
}

func judge(text, file string, touched map[string]bool) string {
	if slices.Contains(overAll, text) {
		return "" // everywhere takes no other
	}
	space := regexp.MustCompile(`\s+`)
	text = space.ReplaceAllString(strings.TrimSpace(text), " ")
	table := regexp.MustCompile(`(?:FROM|INTO|UPDATE|JOIN) ([a-z_]+)`).FindAllStringSubmatch(text, -1)
	if len(table) == 0 {
		return "names no table"
	}
	for _, m := range table {
		if !slices.Contains(tables, m[1]) {
			return "unknown table " + m[1]
		}
		touched[m[1]] = true
	}
	if len(table) > 1 {
		return "several tables: say here how each is bound to the account"
	}
	name := table[0][1]
	if strings.HasPrefix(text, "INSERT") {
		if !regexp.MustCompile(`^INSERT INTO [a-z_]+ \(account, .*VALUES (\(\$1, |\?|%s)`).MatchString(text) {
			return "does not insert the account as $1"
		}
		if c := regexp.MustCompile(`ON CONFLICT \((\w+)`).FindStringSubmatch(text); c != nil && c[1] != "account" {
			return "a conflict beyond the account"
		}
	} else if !regexp.MustCompile(`WHERE (`+name+`\.)?account = \$1\b`).MatchString(text) || strings.Contains(text, " OR ") && !strings.Contains(text, "(outbox.seq IS NULL OR outbox.seq = v.column2)") {
		return "does not select by account = $1"
	}
	if !strings.HasPrefix(text, "SELECT") && slices.Contains(state, name) && !strings.HasPrefix(file, "commit") && !slices.Contains(entryless, text) {
		return "writes state outside of Commit"
	}
	return ""
}

// flat is the text of a string expression, with "?" for what is not a literal; "" for other expressions.
func flat(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value)
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			l, r := flat(e.X), flat(e.Y)
			if l == "" && r == "" {
				return ""
			}
			if l == "" {
				l = "?"
			}
			if r == "" {
				r = "?"
			}
			return l + r
		}
	}
	return ""
}

func TestTheJudgeOfStatementsSeesAForgottenAccount(t *testing.T) {
	for _, bad := range []string{
		"SELECT body FROM document WHERE digest = $1",
		"SELECT body FROM document WHERE account = $2 AND digest = $1",
		"SELECT body FROM document WHERE account = $1 OR digest = $2",
		"SELECT body FROM document WHERE account = $11",
		"UPDATE cache SET used_at = $1",
		"DELETE FROM cache WHERE key = $2",
		"INSERT INTO document (digest, account) VALUES ($1, $2)",
		"INSERT INTO cache (account, key) VALUES ($2, $1)",
		"SELECT d.body FROM document d JOIN verdict v ON d.digest = v.id WHERE d.account = $1",
		"UPDATE finding SET state = 'open' WHERE account = $1",
		"UPDATE delivery SET attempts = 0 WHERE account = $1",
		"UPDATE head SET done = wanted WHERE account = $1",
		"SELECT account, guid FROM delivery WHERE state = 'received'",
		"INSERT INTO merge_group (repository, account) VALUES ($1, $2)",
		"SELECT 1",
	} {
		if judge(bad, "read.go", map[string]bool{}) == "" {
			t.Errorf("passed: %s", bad)
		}
	}
}
