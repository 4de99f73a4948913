package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	migrations "github.com/noxaudit/noxaudit/migrations/store"
)

const versions = "store_version"

func TestTheSchemaGoesDownToNothingAndUpAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		db := open(t, dsn)
		dialect := goose.DialectSQLite3
		if db.Engine == database.Postgres {
			dialect = goose.DialectPostgres
		}
		dir, err := fs.Sub(migrations.FS, string(db.Engine))
		must(t, err)
		p, err := goose.NewProvider(dialect, db.Write, dir, goose.WithTableName(versions), goose.WithDisableGlobalRegistry(true))
		must(t, err)
		first := schema(t, db)
		if len(first) < 10 {
			t.Fatalf("the schema has %d tables", len(first))
		}
		_, err = p.DownTo(ctx, 0)
		must(t, err)
		if left := schema(t, db); len(left) != 0 {
			t.Errorf("left behind: %v", slices.Sorted(maps.Keys(left)))
		}
		_, err = p.Up(ctx)
		must(t, err)
		if d := cmp.Diff(first, schema(t, db)); d != "" {
			t.Errorf("another schema the second time: -first +second\n%s", d)
		}
	})
}

func TestBothEnginesHaveTheSameTablesColumnsAndKeys(t *testing.T) {
	postgres := schema(t, open(t, dbtest.Postgres(t)))
	sqlite := schema(t, open(t, dbtest.SQLite(t)))
	if d := cmp.Diff(sqlite, postgres); d != "" {
		t.Errorf("-sqlite +postgres\n%s", d)
	}
}

func TestOpeningAgainChangesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		first := schema(t, open(t, dsn))
		if d := cmp.Diff(first, schema(t, open(t, dsn))); d != "" {
			t.Error(d)
		}
	})
}

func open(t *testing.T, dsn string) *database.DB {
	t.Helper()
	db, err := database.Open(context.Background(), dsn, migrations.FS, versions)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// schema is, by table, the columns in their order with one name per type, whether they may be NULL, and the
// number of indexes.
func schema(t *testing.T, db *database.DB) map[string][]string {
	t.Helper()
	columns := `SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name <> $1 ORDER BY table_name, ordinal_position`
	indexes := `SELECT tablename, COUNT(*) FROM pg_indexes WHERE schemaname = 'public' AND tablename <> $1 GROUP BY tablename`
	if db.Engine == database.SQLite {
		columns = `SELECT m.name, c.name, c.type, c."notnull" = 0 FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> $1 ORDER BY m.name, c.cid`
		indexes = `SELECT tbl_name, COUNT(*) FROM sqlite_master WHERE type = 'index' AND tbl_name <> $1 GROUP BY tbl_name`
	}
	out := map[string][]string{}
	read(t, db.Read, columns, func(rows *sql.Rows) {
		var table, column, kind string
		var null bool
		must(t, rows.Scan(&table, &column, &kind, &null))
		kind = strings.NewReplacer("bytea", "bytes", "blob", "bytes").Replace(strings.ToLower(kind))
		out[table] = append(out[table], fmt.Sprint(column, " ", kind, " null:", null))
	})
	read(t, db.Read, indexes, func(rows *sql.Rows) {
		var table string
		var n int
		must(t, rows.Scan(&table, &n))
		out[table] = append(out[table], fmt.Sprint(n, " indexes"))
	})
	return out
}

func read(t *testing.T, db *sql.DB, statement string, scan func(*sql.Rows)) {
	t.Helper()
	rows, err := db.Query(statement, versions)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		scan(rows)
	}
	must(t, rows.Err())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
