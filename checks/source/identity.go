package source

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// Origin is the address of the remote "origin", without credentials and without ".git": what tells two
// checkouts of one repository from two repositories. It is "" where there is no such remote or its address is
// a local path.
func (r *Repository) Origin(ctx context.Context) (string, error) {
	out, err := r.git.output(ctx, 4096, "config", "--local", "--get", "remote.origin.url")
	if err != nil {
		if exitCode(err) == 1 { // not set
			return "", nil
		}
		return "", fmt.Errorf("origin: %w", err)
	}
	return cleanOrigin(strings.TrimSpace(string(out))), nil
}

// cleanOrigin writes "https://user:token@GitHub.com/o/r.git" and "git@github.com:o/r" as "github.com/o/r".
func cleanOrigin(address string) string {
	if host, path, ok := strings.Cut(address, ":"); ok && !strings.Contains(address, "://") && !strings.ContainsAny(host, "/\\") {
		if _, after, ok := strings.Cut(host, "@"); ok { // the scp form
			host = after
		}
		if len(host) < 2 { // a Windows drive
			return ""
		}
		return trimOrigin(host, path)
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme == "file" {
		return ""
	}
	return trimOrigin(u.Hostname(), u.Path)
}

func trimOrigin(host, path string) string {
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if path == "" {
		return ""
	}
	return strings.ToLower(host) + "/" + path
}

// Branch is the short name of the branch that is checked out; "" for a detached HEAD.
func (r *Repository) Branch(ctx context.Context) (string, error) {
	out, err := r.git.output(ctx, 4096, "symbolic-ref", "--short", "-q", "HEAD")
	if err != nil {
		if exitCode(err) == 1 {
			return "", nil
		}
		return "", fmt.Errorf("branch: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
