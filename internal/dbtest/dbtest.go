// Package dbtest gives tests a fresh, empty database on each engine, so that one suite runs on both.
package dbtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

// ServerVar names the environment variable with the URL of a PostgreSQL server on which tests may create
// and drop databases. "make test" starts one; without it the PostgreSQL half of a suite is skipped, loudly.
const ServerVar = "NOXAUDIT_TEST_POSTGRES_URL"

// Each runs test once per engine, with the DSN of an empty database of its own.
func Each(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

// SQLite is the path of a database file that does not exist yet, in a directory that ends with the test.
func SQLite(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "test.db")
}

// Postgres is the URL of a new database, dropped when the test ends. It skips the test when no server is
// named.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv(ServerVar)
	if server == "" {
		t.Skipf("NOT RUN ON POSTGRES: %s is not set; \"make test\" starts a server and sets it", ServerVar)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s: not a URL", ServerVar)
	}
	var raw [6]byte
	if _, err := rand.Read(raw[:]); err != nil {
		t.Fatal(err)
	}
	db := "noxaudit_test_" + hex.EncodeToString(raw[:])
	exec := func(statement string) {
		t.Helper()
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Fatalf("test server: %v", err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("test server: %v", err)
		}
	}
	exec("CREATE DATABASE " + db)
	t.Cleanup(func() { exec("DROP DATABASE " + db + " WITH (FORCE)") })
	u.Path = "/" + db
	return u.String()
}
