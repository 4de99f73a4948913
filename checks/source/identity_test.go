package source

import (
	"context"
	"errors"
	"testing"

	"github.com/noxaudit/noxaudit/internal/gittest"
)

func TestOriginIsTheSameForEveryWayToWriteIt(t *testing.T) {
	for in, want := range map[string]string{
		"https://github.com/octo-org/pay.git":               "github.com/octo-org/pay",
		"https://x-access-token:hunter2@GitHub.com/o/r.git": "github.com/o/r",
		"git@github.com:o/r.git":                            "github.com/o/r",
		"ssh://git@github.com:22/o/r":                       "github.com/o/r",
		"github.com:o/r":                                    "github.com/o/r",
		"/srv/git/r.git":                                    "",
		"file:///srv/git/r.git":                             "",
		"../r":                                              "",
		`C:\src\r`:                                          "",
		"https://github.com/":                               "",
		"":                                                  "",
	} {
		if got := cleanOrigin(in); got != want {
			t.Errorf("cleanOrigin(%q) = %q, want %q", in, got, want)
		}
	}
}

func openRepo(t *testing.T, dir string) *Repository {
	t.Helper()
	r, err := Open(context.Background(), dir, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestOriginAndBranchOfACheckout(t *testing.T) {
	g := gittest.New(t)
	g.Commit(gittest.Files{"a": "1"})
	ctx := context.Background()
	r := openRepo(t, g.Dir)
	if origin, err := r.Origin(ctx); err != nil || origin != "" {
		t.Errorf("without a remote: %q, %v", origin, err)
	}
	if branch, err := r.Branch(ctx); err != nil || branch != "main" {
		t.Errorf("branch %q, %v", branch, err)
	}
	g.Git("remote", "add", "origin", "git@github.com:o/r.git")
	g.Git("checkout", "-q", "--detach")
	r = openRepo(t, g.Dir)
	if origin, err := r.Origin(ctx); err != nil || origin != "github.com/o/r" {
		t.Errorf("origin %q, %v", origin, err)
	}
	if branch, err := r.Branch(ctx); err != nil || branch != "" {
		t.Errorf("detached: %q, %v", branch, err)
	}
}

func TestATagDoesNotTakeABranchsPlace(t *testing.T) {
	g := gittest.New(t)
	first := g.Commit(gittest.Files{"a": "1"})
	g.Git("update-ref", "refs/remotes/origin/main", first)
	second := g.Commit(gittest.Files{"a": "2"})
	ctx := context.Background()
	r := openRepo(t, g.Dir)
	if c, err := r.Resolve(ctx, "origin/main"); err != nil || c.String() != first {
		t.Fatalf("origin/main is %s, %v", c, err)
	}
	g.Git("tag", "origin/main", second)
	for _, rev := range []string{"origin/main", "origin/main~0"} {
		if c, err := r.Resolve(ctx, rev); !errors.Is(err, ErrAmbiguous) {
			t.Errorf("%s is %s, %v; want ErrAmbiguous", rev, c, err)
		}
	}
	if c, err := r.Resolve(ctx, "refs/remotes/origin/main"); err != nil || c.String() != first {
		t.Errorf("the full name is %s, %v", c, err)
	}
	g.Git("tag", "-d", "origin/main")
	g.Git("tag", "origin/main", first)
	if c, err := r.Resolve(ctx, "origin/main"); err != nil || c.String() != first {
		t.Errorf("a tag of the same commit: %s, %v", c, err)
	}
	g.Git("tag", "v1", second)
	if c, err := r.Resolve(ctx, "v1"); err != nil || c.String() != second {
		t.Errorf("a tag alone is %s, %v", c, err)
	}
}
