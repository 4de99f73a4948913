package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// request finds out what is to be judged, against what, and under which policies.
func (p *program) request(ctx context.Context, repo *source.Repository, f auditFlags) (gate.Request, []string, error) {
	req := gate.Request{
		Context: verdict.Local, Trigger: "command line",
		Actor: ledger.Actor{Kind: "cli", Name: p.user(), Via: "noxaudit audit"},
	}
	var err error
	if req.Repo, err = localRepo(ctx, repo); err != nil {
		return req, nil, err
	}
	headCommit, headErr := repo.Resolve(ctx, orHead(f.head))
	switch {
	case f.head != "" || repo.Bare():
		if headErr != nil {
			return req, nil, headErr
		}
		// Commits named one by one are no line: what is in one and not in the next was not resolved.
		req.Line, req.Adhoc = "commit", true
		req.Head, err = repo.Commit(ctx, headCommit)
	default:
		if req.Line, err = worktreeLine(ctx, repo); err != nil {
			return req, nil, err
		}
		req.Head, err = repo.WorkTree(ctx)
	}
	if err != nil {
		return req, nil, err
	}
	if headErr != nil && !errors.Is(headErr, source.ErrUnborn) {
		return req, nil, headErr
	}
	policyFrom := req.Head
	var early []string
	if f.base != "" {
		if headErr != nil {
			return req, nil, fmt.Errorf("--base %s: %w, so there is nothing to compare", f.base, headErr)
		}
		base, err := repo.Resolve(ctx, f.base)
		if err != nil {
			return req, nil, fmt.Errorf("--base: %w", err)
		}
		merge, err := repo.MergeBase(ctx, base, headCommit)
		if err != nil {
			return req, nil, fmt.Errorf("--base %s: %w", f.base, err)
		}
		if req.Base, err = repo.Commit(ctx, merge); err != nil {
			return req, nil, err
		}
		// The rules are today's, not those of the day on which the branch was made.
		if policyFrom, err = repo.Commit(ctx, base); err != nil {
			return req, nil, err
		}
		if merge == headCommit && !req.Head.Commit().IsZero() {
			early = append(early, "The base holds the audited commit already, so there is nothing to compare.")
		}
	} else if headErr == nil && req.Head.Commit().IsZero() {
		if policyFrom, err = repo.Commit(ctx, headCommit); err != nil {
			return req, nil, err
		}
	}
	notes, err := p.policies(ctx, &req, policyFrom, f)
	return req, append(notes, early...), err
}

func orHead(rev string) string {
	if rev == "" {
		return "HEAD"
	}
	return rev
}

// policies sets the policies in force and says in words which they are.
func (p *program) policies(ctx context.Context, req *gate.Request, from *source.Snapshot, f auditFlags) ([]string, error) {
	if f.policy != "" {
		b, err := readFile(f.policy, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("--policy: %w", err)
		}
		src := gate.PolicySource{Origin: policy.Origin{Layer: policy.LayerFile, Path: filepath.ToSlash(f.policy), Blob: canon.Digest(b)}, Bytes: b}
		doc, err := policy.Load(b, src.Origin)
		if err != nil {
			return nil, no(problems(err))
		}
		req.Policy, req.Sources = gate.Effective(doc), []gate.PolicySource{src}
		return []string{"Judged under the policies of " + f.policy + ", not the repository's own."}, nil
	}
	where := "HEAD"
	switch {
	case req.Base != nil:
		where = "the base, " + f.base + " at " + from.Commit().Short()
	case f.head != "":
		where = req.Head.Commit().Short()
	case from == req.Head && from.Commit().IsZero():
		where = "the working tree, since there is no commit yet"
	}
	doc, src, err := gate.ReadPolicy(ctx, from)
	if err != nil {
		return nil, no(fmt.Errorf("the policies of %s cannot be used, so nothing can be judged: %w\nto mend it, judge the change that repairs it under its own file: --policy %s", where, problems(err), gate.PolicyPath))
	}
	req.Policy = gate.Effective(doc)
	notes := []string{"Judged under " + gate.PolicyPath + " of " + where + "."}
	if doc == nil {
		notes[0] = "There is no " + gate.PolicyPath + " in " + where + ": the built-in policies hold, which warn and do not block."
	} else {
		req.Sources = []gate.PolicySource{src}
	}
	if from != req.Head {
		old, _ := from.Lookup(gate.PolicyPath)
		now, _ := req.Head.Lookup(gate.PolicyPath)
		if old.Blob != now.Blob {
			notes = append(notes, "The audited tree has other policies than that; they hold once they are in the base. To try them: --policy "+gate.PolicyPath+".")
		}
	}
	return notes, nil
}

// problems makes a refused document's error a line per problem.
func problems(err error) error {
	var load *policy.LoadError
	if !errors.As(err, &load) {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", load.Origin.Path)
	for _, pr := range load.Problems {
		fmt.Fprintf(&b, "\n  %s:%s", load.Origin.Path, pr)
	}
	if load.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", load.More)
	}
	return errors.New(b.String())
}

// localRepo is the identity of a checkout: the address of its remote "origin", so that it is the same wherever
// it is checked out, or its absolute path where it has none.
func localRepo(ctx context.Context, repo *source.Repository) (name.Repo, error) {
	kind, key, full := "path", repo.Root(), filepath.Base(repo.Root())
	origin, err := repo.Origin(ctx)
	if err != nil {
		return name.Repo{}, err
	}
	if origin != "" {
		kind, key = "origin", origin
		full = path.Base(path.Dir(origin)) + "/" + path.Base(origin)
	}
	return name.Repo{Account: name.Local, ID: kind + "-" + digest(key), FullName: shorten(escape.Visible(full))}, nil
}

// worktreeLine is the line of history of a working tree: another branch, or another checkout, is another one.
func worktreeLine(ctx context.Context, repo *source.Repository) (string, error) {
	branch, err := repo.Branch(ctx)
	if err != nil {
		return "", err
	}
	if branch == "" {
		branch = "detached"
	}
	return "worktree/" + digest(repo.Root())[:8] + "/" + shorten(escape.Visible(branch)), nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

func shorten(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "")
	}
	return s
}

// user is who runs the command, as far as the environment says; it is not authenticated.
func (p *program) user() string {
	for _, key := range []string{"GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME", "USERNAME"} {
		for _, kv := range p.environ {
			if v, ok := strings.CutPrefix(kv, key+"="); ok && v != "" {
				return v
			}
		}
	}
	return ""
}
