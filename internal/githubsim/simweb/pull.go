package simweb

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// state is how the checks of a commit stand, for one mark: "", pending, success or failure.
type state struct {
	Mark  string
	Words string
}

// check is a check run with its App's name.
type check struct {
	githubsim.Check
	App   string
	Mark  string // pending, success, failure or neutral
	Words string
}

func (w *web) checksOf(v *visit, repo, sha string) ([]check, error) {
	all, err := v.sim.Checks(repo, sha)
	if err != nil {
		return nil, err
	}
	apps := map[int64]string{}
	for _, a := range v.sim.Apps() {
		apps[a.ID] = a.Slug
	}
	var out []check
	for _, c := range slices.Backward(all) { // only the newest of a name counts
		if slices.ContainsFunc(out, func(o check) bool { return o.Name == c.Name && o.Check.App == c.App }) {
			continue
		}
		out = append(out, dress(c, apps[c.App]))
	}
	slices.Reverse(out)
	return out, nil
}

func dress(c githubsim.Check, app string) check {
	k := check{Check: c, App: app}
	switch {
	case c.Status != "completed":
		k.Mark, k.Words = "pending", "in progress"
	case c.Conclusion == "success":
		k.Mark, k.Words = "success", "passed"
	case c.Conclusion == "neutral" || c.Conclusion == "skipped":
		k.Mark, k.Words = "neutral", c.Conclusion
	case c.Conclusion == "action_required":
		k.Mark, k.Words = "failure", "action required"
	default:
		k.Mark, k.Words = "failure", "failed"
	}
	return k
}

// stateOf sums the checks of a commit up: the worst one speaks.
func (w *web) stateOf(v *visit, repo, sha string) state {
	all, err := w.checksOf(v, repo, sha)
	if err != nil || len(all) == 0 {
		return state{}
	}
	for _, mark := range []string{"failure", "pending", "success", "neutral"} {
		for _, c := range all {
			if c.Mark == mark {
				words := c.Title
				if words == "" {
					words = c.Name + " " + c.Words
				}
				return state{mark, words}
			}
		}
	}
	return state{}
}

type pullLine struct {
	githubsim.Pull
	Checks   state
	Comments int
}

func (w *web) pullLine(v *visit, p githubsim.Pull) pullLine {
	l := pullLine{Pull: p, Checks: w.stateOf(v, p.Repo, p.HeadSHA)}
	comments, err := v.sim.Comments(p.Repo, p.Number)
	if err == nil {
		l.Comments = len(comments)
	}
	return l
}

func (w *web) pulls(v *visit) (*view, error) {
	c, err := w.enter(v, "pulls")
	if err != nil {
		return nil, err
	}
	var body struct {
		Crumb  crumb
		State  string
		Closed int
		Pulls  []pullLine
	}
	body.Crumb, body.State = c, "open"
	if v.URL.Query().Get("state") == "closed" {
		body.State = "closed"
	}
	all, err := v.sim.Pulls(c.Repo.FullName)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Backward(all) {
		if p.State == "closed" {
			body.Closed++
		}
		if p.State == body.State {
			body.Pulls = append(body.Pulls, w.pullLine(v, p))
		}
	}
	return &view{page: "pulls", title: "Pull requests", body: body}, nil
}

// pullHead is what all pages of a pull request begin with.
type pullHead struct {
	Crumb   crumb
	Pull    githubsim.Pull
	Section string
	Checks  []check
	Files   int
	Commits int
	Talk    int
	HeadAt  string // where the head's files are, or ""
	Pending bool
}

func (w *web) head(v *visit, section string) (pullHead, error) {
	c, err := w.enter(v, "pulls")
	if err != nil {
		return pullHead{}, err
	}
	n, err := strconv.Atoi(v.PathValue("number"))
	if err != nil {
		return pullHead{}, errMissing
	}
	p, err := v.sim.Pull(c.Repo.FullName, n)
	if err != nil {
		return pullHead{}, errMissing
	}
	h := pullHead{Crumb: c, Pull: p, Section: section}
	if h.Checks, err = w.checksOf(v, p.Repo, p.HeadSHA); err != nil {
		return h, err
	}
	h.Pending = slices.ContainsFunc(h.Checks, func(c check) bool { return c.Mark == "pending" }) || p.State == "open" && len(h.Checks) == 0 && w.o.Now().Sub(p.Updated) < 20*time.Second
	changes, err := v.sim.Changes(p.Repo, p.Number)
	if err != nil {
		return h, err
	}
	h.Files = len(changes)
	commits, err := v.sim.PullCommits(p.Repo, p.Number)
	if err != nil {
		return h, err
	}
	h.Commits = len(commits)
	if p.HeadRepo != "" {
		if can, err := v.sim.PermissionOf(p.HeadRepo, v.user); err == nil && can != githubsim.None {
			h.HeadAt = "/" + p.HeadRepo
		}
	}
	comments, err := v.sim.Comments(p.Repo, p.Number)
	h.Talk = len(comments)
	return h, err
}

// said is one thing in the conversation, a comment or a review.
type said struct {
	Comment   *githubsim.Comment
	Review    *githubsim.Review
	At        time.Time
	Bot       bool
	MayChange bool
	Editing   bool
	Reactions []reaction
}

type reaction struct {
	Content string
	Who     []string
}

// required is one check that the base branch asks for.
type required struct {
	Name, Mark, Words string
}

// mergeBox is what may be done with the pull request, and why not.
type mergeBox struct {
	Why       string // why it cannot be merged now; "": it can
	Required  []required
	Queue     bool // merges go through a queue
	Place     int  // in the queue, 1 is next; 0: not in it
	MayMerge  bool // the visitor may press the button
	MayBypass bool
	MayClose  bool
	MayReview bool
	Approvals int
	Wanted    int
	Conflict  bool
}

func (w *web) pull(v *visit) (*view, error) {
	h, err := w.head(v, "conversation")
	if err != nil {
		return nil, err
	}
	var body struct {
		Head pullHead
		Said []said
		Box  mergeBox
	}
	body.Head = h
	if body.Said, err = w.conversation(v, h); err != nil {
		return nil, err
	}
	if body.Box, err = w.box(v, h); err != nil {
		return nil, err
	}
	editing := v.URL.Query().Get("edit") != ""
	return &view{page: "pull", title: fmt.Sprintf("%s · #%d", h.Pull.Title, h.Pull.Number), body: body, fresh: h.Pending && !editing}, nil
}

func (w *web) conversation(v *visit, h pullHead) ([]said, error) {
	comments, err := v.sim.Comments(h.Pull.Repo, h.Pull.Number)
	if err != nil {
		return nil, err
	}
	reviews, err := v.sim.Reviews(h.Pull.Repo, h.Pull.Number)
	if err != nil {
		return nil, err
	}
	edit, _ := strconv.ParseInt(v.URL.Query().Get("edit"), 10, 64)
	var all []said
	for _, c := range comments {
		s := said{Comment: &c, At: c.Created, Bot: isBot(c.Author), MayChange: h.Crumb.CanWrite || c.Author == v.user}
		s.Editing = s.MayChange && c.ID == edit
		for _, content := range []string{"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"} {
			if who := c.Reactions[content]; len(who) > 0 {
				s.Reactions = append(s.Reactions, reaction{content, who})
			}
		}
		all = append(all, s)
	}
	for _, r := range reviews {
		all = append(all, said{Review: &r, At: r.Submitted, Bot: isBot(r.Author)})
	}
	slices.SortStableFunc(all, func(a, b said) int { return a.At.Compare(b.At) })
	return all, nil
}

func isBot(login string) bool { return len(login) > 5 && login[len(login)-5:] == "[bot]" }

func (w *web) box(v *visit, h pullHead) (mergeBox, error) {
	p, b := h.Pull, mergeBox{}
	protection, err := v.sim.ProtectionOf(p.Repo, p.BaseRef)
	if err != nil {
		return b, err
	}
	var no *githubsim.Refused
	switch err := v.sim.MergeState(p.Repo, p.Number); {
	case errors.As(err, &no):
		b.Why = no.Reason
	case err != nil:
		return b, err
	case !p.Mergeable:
		b.Why, b.Conflict = "This branch has conflicts with "+p.BaseRef+" that must be resolved.", true
	}
	admin := h.Crumb.Can == githubsim.Admin
	b.MayMerge = h.Crumb.CanWrite
	b.MayClose = h.Crumb.CanWrite || p.Author == v.user
	b.MayReview = p.Author != v.user
	if protection == nil {
		return b, nil
	}
	b.MayBypass = admin && !protection.EnforceAdmins && !p.Draft && !b.Conflict && (b.Why != "" || protection.Queue != nil)
	b.Queue, b.Wanted = protection.Queue != nil, protection.Approvals
	for _, want := range protection.Required {
		r := required{Name: want.Context, Mark: "pending", Words: "expected, nothing has reported yet"}
		for _, c := range h.Checks {
			if c.Name == want.Context && (want.AppID <= 0 || want.AppID == c.Check.App) {
				r.Mark, r.Words = c.Mark, c.Words
				if c.Title != "" {
					r.Words = c.Title
				}
			}
		}
		b.Required = append(b.Required, r)
	}
	queue, err := v.sim.Queue(p.Repo, p.BaseRef)
	b.Place = slices.Index(queue, p.Number) + 1
	return b, err
}

func (w *web) pullCommits(v *visit) (*view, error) {
	h, err := w.head(v, "commits")
	if err != nil {
		return nil, err
	}
	all, err := v.sim.PullCommits(h.Pull.Repo, h.Pull.Number)
	body := struct {
		Head    pullHead
		Crumb   crumb
		Ref     string
		Commits []commitLine
	}{Head: h, Commits: w.commitLines(v, h.Pull.Repo, all)}
	return &view{page: "commits", title: "Commits", body: body}, err
}

func (w *web) files(v *visit) (*view, error) {
	h, err := w.head(v, "files")
	if err != nil {
		return nil, err
	}
	changes, err := v.sim.Changes(h.Pull.Repo, h.Pull.Number)
	body := struct {
		Head    pullHead
		Files   []fileDiff
		MayEdit bool
	}{Head: h, Files: diffs(changes, h.Checks)}
	if h.Pull.HeadRepo != "" && h.Pull.State == "open" {
		can, err := v.sim.PermissionOf(h.Pull.HeadRepo, v.user)
		body.MayEdit = err == nil && slices.Contains(writers, can)
	}
	return &view{page: "files", title: fmt.Sprintf("Files · #%d", h.Pull.Number), body: body, fresh: h.Pending}, err
}

func (w *web) checks(v *visit) (*view, error) {
	h, err := w.head(v, "checks")
	return &view{page: "checks", title: fmt.Sprintf("Checks · #%d", h.Pull.Number), body: struct{ Head pullHead }{h}, fresh: h.Pending}, err
}

func (w *web) run(v *visit) (*view, error) {
	c, err := w.enter(v, "code")
	if err != nil {
		return nil, err
	}
	id, _ := strconv.ParseInt(v.PathValue("id"), 10, 64)
	repo, run, err := v.sim.CheckByID(id)
	if err != nil || repo != c.Repo.FullName {
		return nil, errMissing
	}
	app := ""
	for _, a := range v.sim.Apps() {
		if a.ID == run.App {
			app = a.Slug
		}
	}
	body := struct {
		Crumb  crumb
		Checks []check
	}{c, []check{dress(run, app)}}
	return &view{page: "run", title: run.Name, body: body, fresh: run.Status != "completed"}, nil
}

func pullAt(repo string, number int) string { return fmt.Sprintf("/%s/pull/%d", repo, number) }
