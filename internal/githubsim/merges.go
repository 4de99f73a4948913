package githubsim

import (
	"fmt"
	"net/http"
	"slices"
)

// Refused is why a merge is not done, in GitHub's words.
type Refused struct {
	Status int // of the REST answer
	Reason string
}

func (r *Refused) Error() string { return r.Reason }

// Merge merges a pull request with a merge commit and returns that commit. The error is *Refused where GitHub refuses. With
// bypass an admin merges although requirements are not met, unless the protection enforces them for admins.
func (s *Server) Merge(by, repo string, number int, bypass bool) (sha string, err error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return "", err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return "", err
	}
	return s.merge(p, sender, bypass)
}

func (s *Server) merge(p *pull, sender *account, bypass bool) (string, error) {
	if refused := s.mayMerge(p); refused != nil {
		return "", refused
	}
	protection := p.repo.protections[p.baseRef]
	free := bypass && s.permission(p.repo, sender) == Admin && !protection.enforced()
	if refused := s.unmet(p); refused != nil && !free {
		return "", refused
	}
	if protection != nil && protection.Queue != nil && !free {
		return "", &Refused{http.StatusMethodNotAllowed, "Changes must be made through the merge queue"}
	}
	base := p.repo.git.branch(p.baseRef)
	sha, clean, err := p.repo.git.merge(base, p.headSHA, signature(sender, s.now()), mergeMessage(p))
	if err != nil {
		return "", err
	}
	if !clean {
		return "", &Refused{http.StatusMethodNotAllowed, "Pull Request is not mergeable"}
	}
	if err := p.repo.git.setRef("refs/heads/"+p.baseRef, sha); err != nil {
		return "", err
	}
	s.merged(p, sender, sha)
	s.followPush(p.repo, sender, p.baseRef, base, sha)
	return sha, nil
}

func mergeMessage(p *pull) string {
	return fmt.Sprintf("Merge pull request #%d from %s/%s\n\n%s\n", p.number, p.headOwner.login, p.headRef, p.title)
}

// merged closes a pull request as merged.
func (s *Server) merged(p *pull, sender *account, sha string) {
	p.state, p.merged, p.mergedBy, p.mergeSHA = "closed", true, sender, sha
	p.closed, p.mergedAt = s.now(), s.now()
	s.emitPull(p, sender, "closed", object{})
}

func (p *Protection) enforced() bool { return p != nil && p.EnforceAdmins }

// mayMerge is what stops everybody, protection or not.
func (s *Server) mayMerge(p *pull) *Refused {
	switch {
	case p.state != "open":
		return &Refused{http.StatusMethodNotAllowed, "Pull Request is not mergeable"}
	case p.draft:
		return &Refused{http.StatusMethodNotAllowed, "Pull Request is still a draft"}
	}
	return nil
}

// unmet is the first requirement of the base branch that a pull request does not meet on its head, or nil.
func (s *Server) unmet(p *pull) *Refused {
	protection := p.repo.protections[p.baseRef]
	if protection == nil {
		return nil
	}
	if refused := s.checksUnmet(p.repo, protection, p.headSHA); refused != nil {
		return refused
	}
	if protection.Strict && !p.repo.git.isAncestor(p.repo.git.branch(p.baseRef), p.headSHA) {
		return &Refused{http.StatusMethodNotAllowed, "Head branch is out of date with the base branch"}
	}
	approved := map[*account]bool{}
	for _, v := range p.reviews {
		switch v.state {
		case "APPROVED":
			approved[v.author] = s.permission(p.repo, v.author).atLeast(Write)
		case "CHANGES_REQUESTED", "DISMISSED":
			delete(approved, v.author)
		}
	}
	n := 0
	for _, counts := range approved {
		if counts {
			n++
		}
	}
	if n < protection.Approvals {
		return &Refused{http.StatusMethodNotAllowed, fmt.Sprintf("At least %d approving review is required by reviewers with write access.", protection.Approvals)}
	}
	return nil
}

// checksUnmet is the first required check that is not green on a commit, or nil. success, neutral and skipped are green;
// only the newest run of a name in each App's suite counts, and none that is archived.
func (s *Server) checksUnmet(r *repo, protection *Protection, sha string) *Refused {
	for _, want := range protection.Required {
		state, wrongApp := "expected", false
		for _, u := range s.suitesOf(r, sha) {
			for _, run := range s.latest(u) {
				if run.name != want.Context || !run.completed.IsZero() && s.now().Sub(run.completed) > checkArchived {
					continue
				}
				if want.AppID > 0 && want.AppID != u.app.id {
					wrongApp = true
					continue
				}
				switch {
				case run.status != "completed":
					state = "pending"
				case slices.Contains([]string{"success", "neutral", "skipped"}, run.conclusion) && state == "expected":
					state = "green"
				case !slices.Contains([]string{"success", "neutral", "skipped"}, run.conclusion):
					state = "failing"
				}
			}
		}
		switch {
		case state == "green":
		case state == "expected" && wrongApp:
			return &Refused{http.StatusMethodNotAllowed, fmt.Sprintf("Required status check %q was not set by the expected GitHub app.", want.Context)}
		default:
			return &Refused{http.StatusMethodNotAllowed, fmt.Sprintf("Required status check %q is %s.", want.Context, state)}
		}
	}
	return nil
}

// MergeState says why a pull request cannot be merged now, in GitHub's words; nil when it can.
func (s *Server) MergeState(repo string, number int) error {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return err
	}
	if refused := s.mayMerge(p); refused != nil {
		return refused
	}
	if refused := s.unmet(p); refused != nil {
		return refused
	}
	return nil
}
