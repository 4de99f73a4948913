package benchmarks

import (
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/report/figures"
	"github.com/noxaudit/noxaudit/server/web"
)

var (
	reportRepositories = flag.Int("report.repositories", 1000, "repositories of the organisation whose pages are measured")
	reportFindings     = flag.Int("report.findings", 1_000_000, "findings on their default branches, seven of ten open")
)

// BenchmarkReportPages serves the pages of a large organisation from PostgreSQL, each as a whole: access, queries, HTML.
// It reports the median and the 95th percentile in milliseconds. The data is written in bulk; the counts that Commit
// keeps are filled by the statements that the migration fills them with.
func BenchmarkReportPages(b *testing.B) {
	ctx := context.Background()
	dsn := dbtest.Postgres(b)
	s, err := store.Open(ctx, dsn)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	account, err := name.ParseAccount("583231")
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	fill(b, dsn, now)
	h, err := web.New(web.Options{
		Figures: &figures.Figures{Store: s, Now: func() time.Time { return now }}, Log: zerolog.Nop(),
		Person: func(context.Context) (access.Person, bool) {
			return access.Person{ID: 1, Login: "owner", Grants: []access.Grant{{Account: account, Role: access.Owner}}}, true
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	for title, path := range map[string]string{
		"overview": "/orgs/octo-org", "overview, a year": "/orgs/octo-org?days=365", "repositories": "/orgs/octo-org/repositories",
		"findings": "/orgs/octo-org/findings", "findings of a severity": "/orgs/octo-org/findings?severity=low", "findings of a type": "/orgs/octo-org/findings?type=tool/rule-7",
		"resolved": "/orgs/octo-org/findings?state=resolved", "repository": "/orgs/octo-org/repositories/repo-7", "waivers": "/orgs/octo-org/waivers",
	} {
		b.Run(title, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				w := httptest.NewRecorder()
				start := time.Now()
				h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				took = append(took, time.Since(start))
				if w.Code != 200 {
					b.Fatalf("%s: %d\n%s", path, w.Code, w.Body)
				}
			}
			slices.Sort(took)
			for _, p := range []int{50, 95} {
				b.ReportMetric(float64(took[len(took)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
			}
		})
	}
}

// fill writes an organisation in bulk. The body of a finding is a canonical one of its columns.
func fill(b *testing.B, dsn string, now time.Time) {
	b.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	end := now.UnixMicro()
	for _, statement := range []string{
		`INSERT INTO account (account, login, created_at) VALUES ('583231', 'octo-org', 0)`,
		`INSERT INTO known_name (account, noun, name, id, seen_at) VALUES ('583231', 'account', 'octo-org', '583231', 0)`,
		fmt.Sprintf(`INSERT INTO repository (account, id, full_name, version, first_seen, last_changed, installation, owner, name, default_branch, private, archived, covered)
			SELECT '583231', r::text, 'octo-org/repo-' || r, 1, 0, 0, 7, 'octo-org', 'repo-' || r, 'main', true, false, true FROM generate_series(1, %d) r`, *reportRepositories),
		`INSERT INTO known_name (account, noun, name, id, seen_at) SELECT account, 'repository', name, id, 0 FROM repository`,
		fmt.Sprintf(`INSERT INTO line (account, repository, name, version, head, tree, audited_at, verdict, conclusion, judged_at)
			SELECT account, id, 'default', 1, '', 'tree', %[1]d, NULL, CASE WHEN id::int %% 5 = 0 THEN 'block' ELSE 'pass' END, %[1]d FROM repository`, end),
		fmt.Sprintf(`INSERT INTO finding (account, repository, line, fingerprint, content, id, type, severity, path, body, state, first_seen, last_changed, resolved_at)
			SELECT '583231', r, 'default', f, '', id, type, severity, path,
				convert_to('{"id":"' || id || '","fingerprint":"' || f || '","moved":"","path":"' || path || '","auditor":"tool","type":"' || type || '","focus":"quality","severity":"'
					|| (ARRAY['info','low','medium','high','critical'])[severity + 1] || '","confidence":1,"evidence":"deterministic","title":"Something is to be looked at","region":{"startLine":7},"introduced":false}', 'UTF8'),
				CASE WHEN resolved IS NULL THEN 'open' ELSE 'resolved' END, seen, COALESCE(resolved, seen), resolved
			FROM (SELECT (1 + n %% %[2]d)::text AS r, encode(sha256(n::text::bytea), 'hex') AS f, 'NX-' || upper(substr(md5(n::text), 1, 8)) AS id, 'tool/rule-' || (n * 7 / %[2]d) %% 40 AS type,
					CASE WHEN n %% 5003 = 0 THEN 4 WHEN n %% 97 = 0 THEN 3 WHEN n %% 3 = 0 THEN 2 ELSE 1 END AS severity, 'src/dir' || n %% 90 || '/file' || n %% 700 || '.go' AS path,
					%[3]d - (n::bigint * 7919 %% 7776000) * 1000000 AS seen,
					CASE WHEN n %% 10 < 3 THEN %[3]d - (n::bigint * 7919 %% 7776000) * 500000 END AS resolved
				FROM generate_series(1, %[1]d) n) g`, *reportFindings, *reportRepositories, end),
		`INSERT INTO open_count (account, line, repository, severity, open, oldest)
			SELECT account, line, repository, severity, COUNT(*), MIN(first_seen) FROM finding WHERE state = 'open' GROUP BY account, line, repository, severity`,
		`INSERT INTO type_count (account, type, severity, shard, open)
			SELECT account, type, severity, repository::int % 16, COUNT(*) FROM finding WHERE state = 'open' GROUP BY account, type, severity, repository::int % 16`,
		`INSERT INTO day_count (account, day, severity, shard, opened, resolved)
			SELECT account, day, severity, shard, SUM(opened), SUM(resolved) FROM (
				SELECT account, first_seen / 86400000000 AS day, severity, repository::int % 16 AS shard, 1 AS opened, 0 AS resolved FROM finding
				UNION ALL SELECT account, resolved_at / 86400000000, severity, repository::int % 16, 0, 1 FROM finding WHERE state = 'resolved'
			) AS step GROUP BY account, day, severity, shard`,
		`VACUUM ANALYZE`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			b.Fatalf("%v\n%s", err, statement)
		}
	}
}
