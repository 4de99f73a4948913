package githubsim

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// queue is a branch's merge queue. Each entry's group is its pull request on top of everything before it.
type queue struct {
	repo    *repo
	branch  string
	entries []*entry
}

type entry struct {
	pull   *pull
	by     *account
	base   string // commit the group is built on
	head   string // the group's commit
	branch string // gh-readonly-queue/…
	since  time.Time
}

// Enqueue puts a pull request into its base branch's merge queue and returns the group's commit. Requirements must be met
// on its own head. It is merged when the required checks are green on the group's commit, and ejected when one fails or
// the queue's time limit passes.
func (s *Server) Enqueue(by, repo string, number int) (groupSHA string, err error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return "", err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return "", err
	}
	protection := r.protections[p.baseRef]
	switch {
	case protection == nil || protection.Queue == nil:
		return "", fmt.Errorf("merge queue: %s has none", p.baseRef)
	case s.mayMerge(p) != nil:
		return "", s.mayMerge(p)
	case s.unmet(p) != nil:
		return "", s.unmet(p)
	}
	q := r.queues[p.baseRef]
	if q == nil {
		q = &queue{repo: r, branch: p.baseRef}
		r.queues[p.baseRef] = q
		s.queues = append(s.queues, q)
	}
	if slices.ContainsFunc(q.entries, func(e *entry) bool { return e.pull == p }) {
		return "", fmt.Errorf("merge queue: #%d is in it", number)
	}
	e := &entry{pull: p, by: sender}
	base := r.git.branch(p.baseRef)
	if n := len(q.entries); n > 0 {
		base = q.entries[n-1].head
	}
	if err := s.build(e, base); err != nil {
		return "", err
	}
	q.entries = append(q.entries, e)
	s.emitPull(p, sender, "enqueued", object{})
	s.announce(e)
	s.tendQueues()
	return e.head, nil
}

// Queue lists the pull requests in a branch's merge queue, first to merge first.
func (s *Server) Queue(repo, branch string) ([]int, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	var numbers []int
	if q := r.queues[branch]; q != nil {
		for _, e := range q.entries {
			numbers = append(numbers, e.pull.number)
		}
	}
	return numbers, nil
}

// Dequeue takes a pull request out of the merge queue.
func (s *Server) Dequeue(by, repo string, number int) error {
	return s.changePull(by, repo, number, func(p *pull, sender *account) error {
		if !s.dequeue(p, sender, "MANUAL") {
			return errors.New("not in a merge queue")
		}
		return nil
	})
}

var errConflict = errors.New("merge queue: the pull request conflicts with what is before it")

// build makes an entry's group on a base: the commit and its branch.
func (s *Server) build(e *entry, base string) error {
	g := e.pull.repo.git
	sha, clean, err := g.merge(base, e.pull.headSHA, signature(e.by, s.now()), mergeMessage(e.pull))
	if err != nil {
		return err
	}
	if !clean {
		return errConflict
	}
	e.base, e.head, e.since = base, sha, s.now()
	e.branch = fmt.Sprintf("gh-readonly-queue/%s/pr-%d-%s", e.pull.baseRef, e.pull.number, base)
	return g.setRef("refs/heads/"+e.branch, sha)
}

// announce tells Apps of a new group: the branch is pushed, and its checks are asked for.
func (s *Server) announce(e *entry) {
	r := e.pull.repo
	s.emitPush(r, e.by, e.branch, "", e.head)
	s.openSuites(r, e.by, e.branch, "", e.head)
	s.emit(r, e.by, "merge_group", "checks_requested", object{"merge_group": s.group(e)})
}

func (s *Server) group(e *entry) object {
	o := object{"head_sha": e.head, "head_ref": "refs/heads/" + e.branch, "base_sha": e.base, "base_ref": "refs/heads/" + e.pull.baseRef}
	if c, err := s.show(e.pull.repo.git, e.head); err == nil {
		o["head_commit"] = c.head()
	}
	return o
}

// destroy ends a group: reason is merged, invalidated or dequeued.
func (s *Server) destroy(e *entry, reason string) {
	s.emit(e.pull.repo, e.by, "merge_group", "destroyed", object{"merge_group": s.group(e), "reason": reason})
	if s.deleteBranch(e.pull.repo, e.by, e.branch) != nil {
		return // gone already
	}
}

// tendQueues merges groups that are green, in order, and ejects those that failed or waited too long.
func (s *Server) tendQueues() {
	for _, q := range s.queues {
		for len(q.entries) > 0 && s.tend(q) {
		}
	}
}

// tend does one step of a queue and says whether there may be another.
func (s *Server) tend(q *queue) bool {
	r, branch := q.repo, q.branch
	protection := r.protections[branch]
	if protection == nil {
		protection = &Protection{}
	}
	limit := time.Hour
	if protection.Queue != nil && protection.Queue.Timeout > 0 {
		limit = protection.Queue.Timeout
	}
	for _, e := range q.entries {
		if s.failedOn(r, protection, e.head) {
			return s.dequeue(e.pull, e.by, "CI_FAILURE")
		}
		if s.now().Sub(e.since) >= limit {
			return s.dequeue(e.pull, e.by, "CI_TIMEOUT")
		}
	}
	first := q.entries[0]
	if s.checksUnmet(r, protection, first.head) != nil {
		return false
	}
	if err := r.git.setRef("refs/heads/"+branch, first.head); err != nil {
		return s.dequeue(first.pull, first.by, "INVALID_MERGE_COMMIT")
	}
	q.entries = q.entries[1:]
	s.merged(first.pull, first.by, first.head)
	s.emitPush(r, first.by, branch, first.base, first.head)
	r.pushed = s.now()
	s.destroy(first, "merged")
	return true
}

// failedOn says whether a required check has ended red on a commit: waiting for it is over.
func (s *Server) failedOn(r *repo, protection *Protection, sha string) bool {
	for _, want := range protection.Required {
		for _, u := range s.suitesOf(r, sha) {
			for _, run := range s.latest(u) {
				if run.name == want.Context && (want.AppID <= 0 || want.AppID == u.app.id) && run.status == "completed" &&
					!slices.Contains([]string{"success", "neutral", "skipped"}, run.conclusion) {
					return true
				}
			}
		}
	}
	return false
}

// dequeue takes a pull request out of its queue and rebuilds the groups after it.
func (s *Server) dequeue(p *pull, sender *account, reason string) bool {
	q := p.repo.queues[p.baseRef]
	if q == nil {
		return false
	}
	at := slices.IndexFunc(q.entries, func(e *entry) bool { return e.pull == p })
	if at < 0 {
		return false
	}
	e := q.entries[at]
	q.entries = slices.Delete(q.entries, at, at+1)
	s.emitPull(p, sender, "dequeued", object{"reason": reason})
	s.destroy(e, "dequeued")
	s.rebuild(q, at)
	return true
}

// rebuild builds the groups from an entry on anew, because what they stood on is gone.
func (s *Server) rebuild(q *queue, from int) {
	base := q.repo.git.branch(q.branch)
	if from > 0 {
		base = q.entries[from-1].head
	}
	for i := from; i < len(q.entries); {
		e := q.entries[i]
		s.destroy(e, "invalidated")
		if err := s.build(e, base); err != nil {
			q.entries = slices.Delete(q.entries, i, i+1)
			s.emitPull(e.pull, e.by, "dequeued", object{"reason": "MERGE_CONFLICT"})
			continue
		}
		s.announce(e)
		base = e.head
		i++
	}
}

// requeue follows a push: a new tip under a queue invalidates its groups, a new head takes its pull request out.
func (s *Server) requeue(r *repo, branch string) {
	if q := r.queues[branch]; q != nil && len(q.entries) > 0 && q.entries[0].base != r.git.branch(branch) {
		s.rebuild(q, 0)
	}
	for _, base := range s.repos {
		for _, p := range base.pulls {
			if p.state == "open" && p.headRepo == r && p.headRef == branch {
				s.dequeue(p, p.author, "BRANCH_PROTECTIONS")
			}
		}
	}
}
