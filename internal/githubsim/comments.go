package githubsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// commentLimit is how many characters a comment may have.
const commentLimit = 65536

var reactionContents = []string{"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}

type comment struct {
	id               int64
	pull             *pull
	author           *account
	body             string
	created, updated time.Time
	reactions        []*reaction
}

type reaction struct {
	id      int64
	author  *account
	content string
	created time.Time
}

type review struct {
	id        int64
	pull      *pull
	author    *account
	body      string
	state     string // APPROVED, CHANGES_REQUESTED, COMMENTED or DISMISSED
	sha       string
	submitted time.Time
}

// Comment is what people see of a comment.
type Comment struct {
	ID               int64
	Author           string
	Body             string
	Created, Updated time.Time
	Reactions        map[string][]string // who, by content
}

func (c *comment) view() Comment {
	v := Comment{c.id, c.author.login, c.body, c.created, c.updated, map[string][]string{}}
	for _, r := range c.reactions {
		v.Reactions[r.content] = append(v.Reactions[r.content], r.author.login)
	}
	return v
}

// Comments lists a pull request's comments, oldest first.
func (s *Server) Comments(repo string, number int) ([]Comment, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return nil, err
	}
	var all []Comment
	for _, c := range p.comments {
		all = append(all, c.view())
	}
	return all, nil
}

// Comment writes a comment on a pull request and returns its id.
func (s *Server) Comment(by, repo string, number int, body string) (int64, error) {
	defer s.lock()()
	p, sender, err := s.pullBy(by, repo, number, Read)
	if err != nil {
		return 0, err
	}
	if refused := checkBody(body); refused != "" {
		return 0, fmt.Errorf("comment: %s", refused)
	}
	if p.repo.archived {
		return 0, fmt.Errorf("repository %s: archived, so read-only", repo)
	}
	return s.addComment(p, sender, body).id, nil
}

func checkBody(body string) string {
	switch {
	case strings.TrimSpace(body) == "":
		return "body can't be blank"
	case utf8.RuneCountInString(body) > commentLimit:
		return "body is too long (maximum is 65536 characters)"
	}
	return ""
}

func (s *Server) addComment(p *pull, sender *account, body string) *comment {
	now := s.now() // one moment: a comment whose two times differ was edited
	c := &comment{id: s.newID(), pull: p, author: sender, body: body, created: now, updated: now}
	p.comments = append(p.comments, c)
	s.comments[c.id] = c
	s.emitComment(c, sender, "created", object{})
	return c
}

// EditComment changes a comment: its author may, and who has write permission.
func (s *Server) EditComment(by string, id int64, body string) error {
	defer s.lock()()
	c, sender, err := s.commentBy(by, id)
	if err != nil {
		return err
	}
	if refused := checkBody(body); refused != "" {
		return fmt.Errorf("comment: %s", refused)
	}
	s.editComment(c, sender, body)
	return nil
}

func (s *Server) editComment(c *comment, sender *account, body string) {
	from := c.body
	c.body, c.updated = body, s.now()
	s.emitComment(c, sender, "edited", object{"changes": object{"body": object{"from": from}}})
}

// DeleteComment deletes a comment: its author may, and who has write permission.
func (s *Server) DeleteComment(by string, id int64) error {
	defer s.lock()()
	c, sender, err := s.commentBy(by, id)
	if err != nil {
		return err
	}
	s.deleteComment(c, sender)
	return nil
}

func (s *Server) deleteComment(c *comment, sender *account) {
	delete(s.comments, c.id)
	c.pull.comments = slices.DeleteFunc(c.pull.comments, func(o *comment) bool { return o == c })
	s.emitComment(c, sender, "deleted", object{})
}

func (s *Server) commentBy(by string, id int64) (*comment, *account, error) {
	c := s.comments[id]
	if c == nil {
		return nil, nil, fmt.Errorf("comment %d: does not exist", id)
	}
	need := Write
	if strings.EqualFold(c.author.login, by) {
		need = Read
	}
	_, sender, err := s.repoBy(by, c.pull.repo.fullName(), need)
	return c, sender, err
}

func (s *Server) emitComment(c *comment, sender *account, action string, more object) {
	body := object{"issue": s.issue(c.pull), "comment": s.comment(c)}
	maps.Copy(body, more)
	s.emit(c.pull.repo, sender, "issue_comment", action, body)
}

// SubmitReview submits a review of a pull request's head: "approved", "changes_requested" or "commented".
func (s *Server) SubmitReview(by, repo string, number int, state, body string) (int64, error) {
	defer s.lock()()
	p, sender, err := s.pullBy(by, repo, number, Read)
	if err != nil {
		return 0, err
	}
	state = strings.ToUpper(state)
	switch {
	case !slices.Contains([]string{"APPROVED", "CHANGES_REQUESTED", "COMMENTED"}, state):
		return 0, fmt.Errorf("review: %q is not approved, changes_requested or commented", state)
	case sender == p.author && state != "COMMENTED":
		return 0, fmt.Errorf("review: %s may not judge their own pull request", by)
	case state != "APPROVED" && strings.TrimSpace(body) == "":
		return 0, fmt.Errorf("review: body can't be blank")
	}
	v := &review{id: s.newID(), pull: p, author: sender, body: body, state: state, sha: p.headSHA, submitted: s.now()}
	p.reviews = append(p.reviews, v)
	s.emitReview(v, sender, "submitted", object{})
	return v.id, nil
}

// Review is what people see of a review.
type Review struct {
	ID        int64
	Author    string
	State     string // APPROVED, CHANGES_REQUESTED, COMMENTED or DISMISSED
	Body      string
	SHA       string // the head that was reviewed
	Submitted time.Time
}

// Reviews lists a pull request's reviews, oldest first.
func (s *Server) Reviews(repo string, number int) ([]Review, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return nil, err
	}
	var all []Review
	for _, v := range p.reviews {
		all = append(all, Review{v.id, v.author.login, v.state, v.body, v.sha, v.submitted})
	}
	return all, nil
}

// EditReview changes a review's text.
func (s *Server) EditReview(by, repo string, number int, id int64, body string) error {
	return s.changeReview(by, repo, number, id, func(v *review, sender *account) {
		from := v.body
		v.body = body
		s.emitReview(v, sender, "edited", object{"changes": object{"body": object{"from": from}}})
	})
}

// DismissReview takes a review's weight away.
func (s *Server) DismissReview(by, repo string, number int, id int64) error {
	return s.changeReview(by, repo, number, id, func(v *review, sender *account) {
		v.state = "DISMISSED"
		s.emitReview(v, sender, "dismissed", object{})
	})
}

func (s *Server) changeReview(by, repo string, number int, id int64, change func(*review, *account)) error {
	defer s.lock()()
	p, sender, err := s.pullBy(by, repo, number, Read)
	if err != nil {
		return err
	}
	for _, v := range p.reviews {
		if v.id != id {
			continue
		}
		if v.author != sender && !s.permission(p.repo, sender).atLeast(Write) {
			return fmt.Errorf("review %d: %s may not change it", id, by)
		}
		change(v, sender)
		return nil
	}
	return fmt.Errorf("review %d: does not exist", id)
}

func (s *Server) emitReview(v *review, sender *account, action string, more object) {
	shown := s.review(v)
	shown["state"] = strings.ToLower(v.state) // lower case in events, upper case in the API
	shown["body"] = text(v.body)
	body := object{"review": shown, "pull_request": s.pullSimple(v.pull)}
	maps.Copy(body, more)
	s.emit(v.pull.repo, sender, "pull_request_review", action, body)
}
