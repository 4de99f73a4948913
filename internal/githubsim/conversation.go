package githubsim

import (
	"net/http"
	"slices"
	"time"
)

// GET /repos/{owner}/{repo}/issues/{issue_number}/comments
func (s *Server) listComments(c *call) reply {
	p := s.findPull(c, "issue_number")
	if p == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	return s.commentsSince(c, p.comments)
}

// GET /repos/{owner}/{repo}/issues/comments
func (s *Server) listRepoComments(c *call) reply {
	var all []*comment
	for _, p := range c.repo.pulls {
		all = append(all, p.comments...)
	}
	slices.SortFunc(all, func(a, b *comment) int {
		if c.query("sort") == "updated" {
			return a.updated.Compare(b.updated)
		}
		return int(a.id - b.id)
	})
	if c.query("direction") == "desc" || c.query("direction") == "" && c.query("sort") != "" {
		slices.Reverse(all)
	}
	return s.commentsSince(c, all)
}

func (s *Server) commentsSince(c *call, all []*comment) reply {
	if raw := c.query("since"); raw != "" {
		since, err := time.Parse(time.RFC3339, raw)
		if err != nil {
			return fail(http.StatusUnprocessableEntity, "Invalid since")
		}
		all = slices.DeleteFunc(slices.Clone(all), func(o *comment) bool { return o.updated.Before(since) })
	}
	return page(c, all, s.comment)
}

// POST /repos/{owner}/{repo}/issues/{issue_number}/comments
func (s *Server) createComment(c *call) reply {
	p := s.findPull(c, "issue_number")
	if p == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	body, refused := commentBody(c)
	if refused.status != 0 {
		return refused
	}
	return reply{status: http.StatusCreated, body: s.comment(s.addComment(p, c.actor(), body))}
}

func commentBody(c *call) (string, reply) {
	var in struct{ Body *string }
	if r, ok := c.decode(&in); !ok {
		return "", r
	}
	if in.Body == nil {
		return "", invalid("IssueComment", "body", "missing_field", "")
	}
	if refused := checkBody(*in.Body); refused != "" {
		return "", invalid("IssueComment", "body", "custom", refused)
	}
	return *in.Body, reply{}
}

func (s *Server) findComment(c *call) *comment {
	if o := s.comments[c.id("comment_id")]; o != nil && o.pull.repo == c.repo {
		return o
	}
	return nil
}

// GET /repos/{owner}/{repo}/issues/comments/{comment_id}
func (s *Server) getComment(c *call) reply {
	if o := s.findComment(c); o != nil {
		return ok(s.comment(o))
	}
	return fail(http.StatusNotFound, "Not Found")
}

// PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}
func (s *Server) updateComment(c *call) reply {
	o := s.findComment(c)
	if o == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	body, refused := commentBody(c)
	if refused.status != 0 {
		return refused
	}
	s.editComment(o, c.actor(), body)
	return ok(s.comment(o))
}

// DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}
func (s *Server) removeComment(c *call) reply {
	o := s.findComment(c)
	if o == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	s.deleteComment(o, c.actor())
	return reply{status: http.StatusNoContent}
}

// GET /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions
func (s *Server) listReactions(c *call) reply {
	o := s.findComment(c)
	if o == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	content := c.query("content")
	return page(c, slices.DeleteFunc(slices.Clone(o.reactions), func(r *reaction) bool { return content != "" && r.content != content }), s.reaction)
}

func (s *Server) reaction(r *reaction) object {
	return object{"id": r.id, "node_id": nodeID("REA", r.id), "user": s.person(r.author), "content": r.content, "created_at": stamp(r.created)}
}

// POST /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions: 200 when it is there already.
func (s *Server) createReaction(c *call) reply {
	o := s.findComment(c)
	if o == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	var in struct{ Content string }
	if r, ok := c.decode(&in); !ok {
		return r
	}
	if !slices.Contains(reactionContents, in.Content) {
		return invalid("Reaction", "content", "invalid", "")
	}
	for _, r := range o.reactions {
		if r.author == c.actor() && r.content == in.Content {
			return ok(s.reaction(r))
		}
	}
	r := &reaction{id: s.newID(), author: c.actor(), content: in.Content, created: s.now()}
	o.reactions = append(o.reactions, r)
	return reply{status: http.StatusCreated, body: s.reaction(r)}
}

// GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews
func (s *Server) listReviews(c *call) reply {
	p := s.findPull(c, "pull_number")
	if p == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	return page(c, p.reviews, s.review)
}

// GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}
func (s *Server) getReview(c *call) reply {
	if p := s.findPull(c, "pull_number"); p != nil {
		for _, v := range p.reviews {
			if v.id == c.id("review_id") {
				return ok(s.review(v))
			}
		}
	}
	return fail(http.StatusNotFound, "Not Found")
}
