package githubsim

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Limits of check runs. GitHub counts characters of texts.
const (
	annotationsPerRequest = 50
	outputText            = 65535
	outputTitle           = 255
	actionsPerRun         = 3
	runsPerName           = 1000                 // in one suite; the oldest is deleted
	checkArchived         = 400 * 24 * time.Hour // an older run no longer satisfies a required check
	checkDeleted          = 410 * 24 * time.Hour
)

// suite holds the check runs of one App on one commit.
type suite struct {
	id               int64
	repo             *repo
	app              *app
	sha              string
	branch, before   string
	created, updated time.Time
	runs             []*run
}

type run struct {
	id                 int64
	suite              *suite
	name               string
	externalID         string
	detailsURL         string
	status, conclusion string
	started, completed time.Time
	output             output
	annotations        []Annotation
	actions            []Action
}

type output struct {
	Title, Summary, Text string
}

// Annotation is a remark of a check run on a line of a file.
type Annotation struct {
	Path        string `json:"path"`
	StartLine   int    `json:"start_line"`
	EndLine     int    `json:"end_line"`
	StartColumn *int   `json:"start_column"`
	EndColumn   *int   `json:"end_column"`
	Level       string `json:"annotation_level"` // notice, warning or failure
	Message     string `json:"message"`
	Title       string `json:"title"`
	RawDetails  string `json:"raw_details"`
}

// Action is a button of a check run.
type Action struct {
	Label       string `json:"label"`
	Description string `json:"description"`
	Identifier  string `json:"identifier"`
}

// Check is what people see of a check run.
type Check struct {
	ID                   int64
	Name                 string
	App                  int64
	HeadSHA              string
	Status, Conclusion   string
	ExternalID           string
	DetailsURL           string
	Title, Summary, Text string
	Annotations          []Annotation
	Actions              []Action
	Started, Completed   time.Time
}

func (r *run) view() Check {
	return Check{r.id, r.name, r.suite.app.id, r.suite.sha, r.status, r.conclusion, r.externalID, r.detailsURL,
		r.output.Title, r.output.Summary, r.output.Text, slices.Clone(r.annotations), slices.Clone(r.actions), r.started, r.completed}
}

// Checks lists the check runs on a commit, oldest first.
func (s *Server) Checks(repo, sha string) ([]Check, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	var all []Check
	for _, u := range s.suitesOf(r, sha) {
		for _, run := range u.runs {
			if !s.gone(run) {
				all = append(all, run.view())
			}
		}
	}
	slices.SortFunc(all, func(a, b Check) int { return int(a.ID - b.ID) })
	return all, nil
}

// RerunCheck presses "Re-run" of one check run.
func (s *Server) RerunCheck(by string, id int64) error {
	defer s.lock()()
	r, sender, err := s.runBy(by, id)
	if err != nil {
		return err
	}
	return s.rerun(r, sender)
}

func (s *Server) rerun(r *run, sender *account) error {
	if r.status != "completed" {
		return fmt.Errorf("check run %d: still %s, so it cannot be re-run", r.id, r.status)
	}
	s.emitCheck(r, sender, "rerequested", object{})
	return nil
}

// RerunSuite presses "Re-run all checks" of an App on a commit.
func (s *Server) RerunSuite(by, repo, sha string, appID int64) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return err
	}
	for _, u := range s.suitesOf(r, sha) {
		if u.app.id == appID {
			s.emitSuite(u, sender, "rerequested")
			return nil
		}
	}
	return fmt.Errorf("check suite of app %d on %s: does not exist", appID, sha)
}

// PressButton presses one of a check run's action buttons, by its identifier.
func (s *Server) PressButton(by string, id int64, identifier string) error {
	defer s.lock()()
	r, sender, err := s.runBy(by, id)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(r.actions, func(a Action) bool { return a.Identifier == identifier }) {
		return fmt.Errorf("check run %d: has no button %q", id, identifier)
	}
	s.emitCheck(r, sender, "requested_action", object{"requested_action": object{"identifier": identifier}})
	return nil
}

func (s *Server) runBy(by string, id int64) (*run, *account, error) {
	r := s.runs[id]
	if r == nil {
		return nil, nil, fmt.Errorf("check run %d: does not exist", id)
	}
	_, sender, err := s.repoBy(by, r.suite.repo.fullName(), Write)
	return r, sender, err
}

// LateSuite sends check_suite.requested for a commit once more, as GitHub does at times long after the push.
func (s *Server) LateSuite(repo, sha string) error {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return err
	}
	for _, u := range s.suitesOf(r, sha) {
		s.emitSuite(u, r.owner, "requested")
	}
	return nil
}

// CreateCheck makes a completed check run as some App, which need not be installed: another tool in the tests.
func (s *Server) CreateCheck(appID int64, repo, sha, name, conclusion string) (int64, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return 0, err
	}
	a := s.apps[appID]
	if a == nil || !slices.Contains(conclusions, conclusion) {
		return 0, fmt.Errorf("check run: no app %d, or no conclusion %q", appID, conclusion)
	}
	n := s.addRun(s.suiteFor(r, a, sha), name)
	n.status, n.conclusion, n.completed = "completed", conclusion, s.now()
	s.settled(n)
	return n.id, nil
}

// emitCheck sends a check run's event: results to every App, wishes to the one that made it.
func (s *Server) emitCheck(r *run, sender *account, action string, more object) {
	wish := action == "rerequested" || action == "requested_action"
	for _, i := range s.installationsOf(r.suite.repo) {
		if !i.wants("check_run") || wish && (i.app != r.suite.app || i.permissions["checks"] != "write") {
			continue
		}
		shown := s.runShown(r)
		shown["check_suite"] = s.suiteBrief(r.suite)
		if r.externalID == "" {
			shown["external_id"] = ""
		}
		body := object{"check_run": shown}
		maps.Copy(body, more)
		s.emitTo(i, r.suite.repo, sender, "check_run", action, body)
	}
}

func (s *Server) emitSuite(u *suite, sender *account, action string) {
	for _, i := range s.installationsOf(u.repo) {
		if !i.wants("check_suite") || action != "completed" && (i.app != u.app || i.permissions["checks"] != "write") {
			continue
		}
		shown := s.suiteShown(u)
		if action == "rerequested" {
			delete(shown, "rerequestable")
			delete(shown, "runs_rerequestable")
		}
		s.emitTo(i, u.repo, sender, "check_suite", action, object{"check_suite": shown})
	}
}

// suitesOf are the suites on a commit, oldest first.
func (s *Server) suitesOf(r *repo, sha string) []*suite {
	return slices.Clone(r.suites[sha])
}

// suiteFor is an App's suite on a commit, made when there is none.
func (s *Server) suiteFor(r *repo, a *app, sha string) *suite {
	for _, u := range s.suitesOf(r, sha) {
		if u.app == a {
			return u
		}
	}
	u := &suite{id: s.newID(), repo: r, app: a, sha: sha, created: s.now(), updated: s.now()}
	s.suites[u.id] = u
	r.suites[sha] = append(r.suites[sha], u)
	for _, p := range r.pulls {
		if p.headSHA == sha && p.headRepo == r {
			u.branch = p.headRef
		}
	}
	return u
}

// openSuites makes the queued suites that a push gets for every App that may write checks.
func (s *Server) openSuites(r *repo, sender *account, branch, before, sha string) {
	for _, i := range s.installationsOf(r) {
		if i.permissions["checks"] != "write" || r.noSuites[i.app.id] || !i.suspended.IsZero() {
			continue
		}
		known := len(s.suitesOf(r, sha))
		u := s.suiteFor(r, i.app, sha)
		u.branch, u.before = branch, before
		if len(s.suitesOf(r, sha)) > known {
			s.emitSuite(u, sender, "requested")
		}
	}
}

// latest are a suite's runs, the newest of each name.
func (s *Server) latest(u *suite) []*run {
	var all []*run
	for _, r := range slices.Backward(u.runs) {
		if !slices.ContainsFunc(all, func(o *run) bool { return o.name == r.name }) && !s.gone(r) {
			all = append(all, r)
		}
	}
	slices.Reverse(all)
	return all
}

// gone says whether a run is so old that GitHub has deleted it.
func (s *Server) gone(r *run) bool {
	return !r.completed.IsZero() && s.now().Sub(r.completed) > checkDeleted
}

// suiteState derives a suite's status and conclusion from its latest runs.
func (s *Server) suiteState(u *suite) (status, conclusion string) {
	runs := s.latest(u)
	if len(runs) == 0 {
		return "queued", ""
	}
	worst := -1
	for _, r := range runs {
		if r.status != "completed" {
			return "in_progress", ""
		}
		worst = max(worst, slices.Index(severity, r.conclusion))
	}
	return "completed", severity[worst]
}

var (
	severity    = []string{"skipped", "neutral", "success", "cancelled", "action_required", "timed_out", "failure"}
	conclusions = []string{"success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"}
	statuses    = []string{"queued", "in_progress", "completed", "waiting", "requested", "pending"}
)

func (s *Server) addRun(u *suite, name string) *run {
	r := &run{id: s.newID(), suite: u, name: name, status: "queued", started: s.now()}
	u.runs = append(u.runs, r)
	s.runs[r.id] = r
	same := 0
	for _, o := range u.runs {
		if o.name == name {
			same++
		}
	}
	if same > runsPerName {
		at := slices.IndexFunc(u.runs, func(o *run) bool { return o.name == name })
		delete(s.runs, u.runs[at].id)
		u.runs = slices.Delete(u.runs, at, at+1)
	}
	return r
}

// settled tells the world about a completed run, and moves the merge queues that wait for it.
func (s *Server) settled(r *run) {
	r.suite.updated = s.now()
	s.emitCheck(r, r.suite.app.bot, "completed", object{})
	if status, _ := s.suiteState(r.suite); status == "completed" {
		s.emitSuite(r.suite, r.suite.app.bot, "completed")
	}
	s.tendQueues()
}
