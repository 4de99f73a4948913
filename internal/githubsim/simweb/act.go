package simweb

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// act is what a visitor does with a pull request.
func (w *web) act(v *visit) (*view, error) {
	c, err := w.enter(v, "pulls")
	if err != nil {
		return nil, err
	}
	repo := c.Repo.FullName
	n, err := strconv.Atoi(v.PathValue("number"))
	if err != nil {
		return nil, errMissing
	}
	at, body := pullAt(repo, n), strings.ReplaceAll(v.form.Get("body"), "\r\n", "\n")
	id, _ := strconv.ParseInt(v.form.Get("id"), 10, 64)
	switch v.PathValue("act") {
	case "comment":
		var made int64
		if made, err = v.sim.Comment(v.user, repo, n, body); err == nil {
			w.settleComment(v, repo, n, made, body)
			at += "#issuecomment-" + strconv.FormatInt(made, 10)
		}
	case "edit-comment":
		if err = w.own(v, repo, n, id); err == nil {
			err = v.sim.EditComment(v.user, id, body)
		}
	case "delete-comment":
		if err = w.own(v, repo, n, id); err == nil {
			err = v.sim.DeleteComment(v.user, id)
		}
	case "review":
		if _, err = v.sim.SubmitReview(v.user, repo, n, v.form.Get("verdict"), body); err == nil {
			w.settleComment(v, repo, n, 0, body)
		}
	case "merge":
		_, err = v.sim.Merge(v.user, repo, n, false)
	case "bypass":
		_, err = v.sim.Merge(v.user, repo, n, true)
	case "enqueue":
		if _, err = v.sim.Enqueue(v.user, repo, n); err == nil {
			w.settleMerged(v, repo, n)
		}
	case "dequeue":
		err = v.sim.Dequeue(v.user, repo, n)
	case "close":
		err = v.sim.ClosePull(v.user, repo, n)
	case "reopen":
		if err = v.sim.ReopenPull(v.user, repo, n); err == nil {
			w.settleChecks(v, repo, n)
		}
	case "ready":
		err = v.sim.SetDraft(v.user, repo, n, false)
	default:
		err = errMissing
	}
	return &view{to: at}, err
}

// own makes sure that a comment belongs to the pull request of the address.
func (w *web) own(v *visit, repo string, number int, id int64) error {
	all, err := v.sim.Comments(repo, number)
	if err == nil && !slices.ContainsFunc(all, func(c githubsim.Comment) bool { return c.ID == id }) {
		return errMissing
	}
	return err
}

// press presses a button of a check run.
func (w *web) press(v *visit) (*view, error) {
	c, err := w.enter(v, "pulls")
	if err != nil {
		return nil, err
	}
	id, _ := strconv.ParseInt(v.PathValue("id"), 10, 64)
	repo, before, err := v.sim.CheckByID(id)
	if err != nil || repo != c.Repo.FullName {
		return nil, errMissing
	}
	switch v.PathValue("act") {
	case "rerun":
		err = v.sim.RerunCheck(v.user, id)
	case "press":
		err = v.sim.PressButton(v.user, id, v.form.Get("identifier"))
	default:
		return nil, refused{http.StatusNotFound, "There is no such button."}
	}
	if err != nil {
		return nil, err
	}
	w.settle(v.Context(), func() bool {
		_, now, err := v.sim.CheckByID(id)
		return err != nil || now.Status == "completed" && (!now.Completed.Equal(before.Completed) || now.Summary != before.Summary)
	})
	to := local(v.form.Get("to"))
	if to == "/" {
		to = "/" + repo + "/runs/" + v.PathValue("id")
	}
	return &view{to: to}, nil
}

// settleChecks waits for the checks of a pull request's head.
func (w *web) settleChecks(v *visit, repo string, number int) {
	p, err := v.sim.Pull(repo, number)
	if err != nil {
		return
	}
	protection, err := v.sim.ProtectionOf(repo, p.BaseRef)
	if err != nil || protection == nil || len(protection.Required) == 0 {
		return // nothing is sure to come
	}
	w.settle(v.Context(), func() bool {
		all, err := v.sim.Checks(repo, p.HeadSHA)
		done := func(name string) bool {
			return slices.ContainsFunc(all, func(c githubsim.Check) bool { return c.Name == name && c.Status == "completed" })
		}
		return err != nil || !slices.ContainsFunc(protection.Required, func(r githubsim.RequiredCheck) bool { return !done(r.Context) })
	})
}

// settleComment waits for the answer to a comment that is for an App: a line that begins with a slash. The answer is a
// comment after it.
func (w *web) settleComment(v *visit, repo string, number int, id int64, body string) {
	command := false
	for line := range strings.Lines(body) {
		command = command || strings.HasPrefix(line, "/")
	}
	before, err := v.sim.Comments(repo, number)
	if err != nil || !command {
		return
	}
	w.settle(v.Context(), func() bool {
		now, err := v.sim.Comments(repo, number)
		return err != nil || len(now) > len(before) || len(now) > 0 && now[len(now)-1].ID > id && id > 0
	})
	w.settleChecks(v, repo, number)
}

// settleMerged waits for a merge queue.
func (w *web) settleMerged(v *visit, repo string, number int) {
	w.settle(v.Context(), func() bool {
		p, err := v.sim.Pull(repo, number)
		return err != nil || p.State != "open"
	})
}
