package githubsim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// runRequest is the body of creating and updating a check run; nil is not given.
type runRequest struct {
	Name        *string    `json:"name"`
	HeadSHA     *string    `json:"head_sha"`
	ExternalID  *string    `json:"external_id"`
	DetailsURL  *string    `json:"details_url"`
	Status      *string    `json:"status"`
	Conclusion  *string    `json:"conclusion"`
	StartedAt   *time.Time `json:"started_at"`
	CompletedAt *time.Time `json:"completed_at"`
	Output      *struct {
		Title       *string      `json:"title"`
		Summary     *string      `json:"summary"`
		Text        *string      `json:"text"`
		Annotations []Annotation `json:"annotations"`
	} `json:"output"`
	Actions *[]Action `json:"actions"`
}

// check holds a request against GitHub's limits. A reply without status is fine.
func (in *runRequest) check() reply {
	bad := func(field, message string) reply {
		return fail(http.StatusUnprocessableEntity, fmt.Sprintf("Invalid request.\n\n%s %s", field, message))
	}
	if in.Status != nil && !slices.Contains(statuses, *in.Status) {
		return bad("status", "is not a status")
	}
	if in.Conclusion != nil && !slices.Contains(conclusions, *in.Conclusion) {
		return bad("conclusion", "is not a conclusion")
	}
	if in.Status != nil && *in.Status == "completed" && in.Conclusion == nil {
		return bad(`"conclusion"`, "wasn't supplied.")
	}
	if in.DetailsURL != nil && !strings.HasPrefix(*in.DetailsURL, "https://") && !strings.HasPrefix(*in.DetailsURL, "http://") {
		return invalid("CheckRun", "details_url", "invalid", "details_url must use http or https")
	}
	if o := in.Output; o != nil {
		switch {
		case o.Title == nil || *o.Title == "":
			return bad(`"title"`, "wasn't supplied.")
		case o.Summary == nil:
			return bad(`"summary"`, "wasn't supplied.")
		case utf8.RuneCountInString(*o.Title) > outputTitle:
			return invalid("CheckRun", "title", "custom", "title is too long (maximum is 255 characters)")
		case utf8.RuneCountInString(*o.Summary) > outputText:
			return bad("Only 65535 characters are allowed;", strconv.Itoa(utf8.RuneCountInString(*o.Summary))+" were supplied.")
		case o.Text != nil && utf8.RuneCountInString(*o.Text) > outputText:
			return bad("Only 65535 characters are allowed;", strconv.Itoa(utf8.RuneCountInString(*o.Text))+" were supplied.")
		case len(o.Annotations) > annotationsPerRequest:
			return bad("No more than 50 items are allowed;", strconv.Itoa(len(o.Annotations))+" were supplied.")
		}
		for _, a := range o.Annotations {
			switch {
			case a.Path == "" || a.Message == "" || a.StartLine < 1 || a.EndLine < a.StartLine:
				return invalid("CheckAnnotation", "path", "missing_field", "path, message, start_line and end_line are needed")
			case !slices.Contains([]string{"notice", "warning", "failure"}, a.Level):
				return bad("annotation_level", "is not notice, warning or failure")
			case (a.StartColumn != nil || a.EndColumn != nil) && a.StartLine != a.EndLine:
				return invalid("CheckAnnotation", "start_column", "invalid", "columns are for annotations on one line")
			case len(a.Message) > 64<<10 || len(a.RawDetails) > 64<<10 || utf8.RuneCountInString(a.Title) > outputTitle:
				return invalid("CheckAnnotation", "message", "custom", "message or title is too long")
			}
		}
	}
	if in.Actions != nil {
		if len(*in.Actions) > actionsPerRun {
			return bad("No more than 3 items are allowed;", strconv.Itoa(len(*in.Actions))+" were supplied.")
		}
		for _, a := range *in.Actions {
			if a.Label == "" || a.Description == "" || a.Identifier == "" {
				return bad("actions", "need label, description and identifier")
			}
			if utf8.RuneCountInString(a.Label) > 20 || utf8.RuneCountInString(a.Description) > 40 || utf8.RuneCountInString(a.Identifier) > 20 {
				return bad("actions", "are too long: label 20, description 40, identifier 20 characters")
			}
		}
	}
	return reply{}
}

// apply writes a checked request into a run: annotations are added, everything else replaces.
func (r *run) apply(in *runRequest, now time.Time) {
	set := func(to *string, from *string) {
		if from != nil {
			*to = *from
		}
	}
	set(&r.name, in.Name)
	set(&r.externalID, in.ExternalID)
	set(&r.detailsURL, in.DetailsURL)
	if in.StartedAt != nil {
		r.started = in.StartedAt.UTC()
	}
	if in.Output != nil {
		set(&r.output.Title, in.Output.Title)
		set(&r.output.Summary, in.Output.Summary)
		set(&r.output.Text, in.Output.Text)
		r.annotations = append(r.annotations, in.Output.Annotations...)
	}
	if in.Actions != nil {
		r.actions = *in.Actions
	}
	switch {
	case in.Conclusion != nil:
		r.status, r.conclusion, r.completed = "completed", *in.Conclusion, now
		if in.CompletedAt != nil {
			r.completed = in.CompletedAt.UTC()
		}
	case in.Status != nil:
		r.status, r.conclusion, r.completed = *in.Status, "", time.Time{}
	}
}

// POST /repos/{owner}/{repo}/check-runs
func (s *Server) createRun(c *call) reply {
	var in runRequest
	if r, ok := c.decode(&in); !ok {
		return r
	}
	switch {
	case in.Name == nil || *in.Name == "":
		return fail(http.StatusUnprocessableEntity, "Invalid request.\n\n\"name\" wasn't supplied.")
	case in.HeadSHA == nil:
		return fail(http.StatusUnprocessableEntity, "Invalid request.\n\n\"head_sha\" wasn't supplied.")
	case len(*in.HeadSHA) != 40 || c.repo.git.resolve(*in.HeadSHA) == "":
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+*in.HeadSHA)
	}
	if r := in.check(); r.status != 0 {
		return r
	}
	r := s.addRun(s.suiteFor(c.repo, c.installation.app, *in.HeadSHA), *in.Name)
	r.apply(&in, s.now())
	r.suite.updated = s.now()
	s.emitCheck(r, c.actor(), "created", object{})
	if r.status == "completed" {
		s.settled(r)
	}
	return reply{status: http.StatusCreated, body: s.runShown(r)}
}

// PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}
func (s *Server) updateRun(c *call) reply {
	r := s.findRun(c)
	if r == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	if r.suite.app != c.installation.app {
		return fail(http.StatusForbidden, "Invalid app_id `"+strconv.FormatInt(c.installation.app.id, 10)+"` - check run can only be modified by the GitHub App that created it.")
	}
	var in runRequest
	if r, ok := c.decode(&in); !ok {
		return r
	}
	if r := in.check(); r.status != 0 {
		return r
	}
	in.HeadSHA = nil
	r.apply(&in, s.now())
	r.suite.updated = s.now()
	if r.status == "completed" && in.Conclusion != nil {
		s.settled(r)
	}
	return ok(s.runShown(r))
}

func (s *Server) findRun(c *call) *run {
	if r := s.runs[c.id("check_run_id")]; r != nil && r.suite.repo == c.repo && !s.gone(r) {
		return r
	}
	return nil
}

// GET /repos/{owner}/{repo}/check-runs/{check_run_id}
func (s *Server) getRun(c *call) reply {
	if r := s.findRun(c); r != nil {
		return ok(s.runShown(r))
	}
	return fail(http.StatusNotFound, "Not Found")
}

// GET /repos/{owner}/{repo}/check-runs/{check_run_id}/annotations
func (s *Server) listAnnotations(c *call) reply {
	r := s.findRun(c)
	if r == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	return page(c, r.annotations, func(a Annotation) object {
		return object{"path": a.Path, "start_line": a.StartLine, "end_line": a.EndLine, "start_column": a.StartColumn, "end_column": a.EndColumn,
			"annotation_level": a.Level, "title": text(a.Title), "message": a.Message, "raw_details": text(a.RawDetails),
			"blob_href": s.api("/repos/%s/contents/%s?ref=%s", c.repo.fullName(), escapePath(a.Path), r.suite.sha)}
	})
}

// POST /repos/{owner}/{repo}/check-runs/{check_run_id}/rerequest
func (s *Server) rerequestRun(c *call) reply {
	r := s.findRun(c)
	if r == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	if err := s.rerun(r, c.actor()); err != nil {
		return fail(http.StatusUnprocessableEntity, "This check run is not rerequestable")
	}
	return reply{status: http.StatusCreated, body: object{}}
}

// runsOf lists runs as the lists' filters ask.
func (s *Server) runsOf(c *call, suites []*suite) reply {
	var all []*run
	for _, u := range suites {
		runs := s.latest(u)
		if c.query("filter") == "all" {
			runs = slices.DeleteFunc(slices.Clone(u.runs), s.gone)
		}
		for _, r := range runs {
			if name := c.query("check_name"); name != "" && name != r.name {
				continue
			}
			if status := c.query("status"); status != "" && status != r.status {
				continue
			}
			if id := c.query("app_id"); id != "" && id != strconv.FormatInt(u.app.id, 10) {
				continue
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *run) int { return int(b.id - a.id) })
	return pageIn(c, "check_runs", all, s.runShown)
}

// GET /repos/{owner}/{repo}/commits/{ref}/check-runs
func (s *Server) listRunsForRef(c *call) reply {
	sha := c.repo.git.resolve(c.value("ref"))
	if sha == "" {
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+c.value("ref"))
	}
	return s.runsOf(c, s.suitesOf(c.repo, sha))
}

// GET /repos/{owner}/{repo}/commits/{ref}/check-suites
func (s *Server) listSuitesForRef(c *call) reply {
	sha := c.repo.git.resolve(c.value("ref"))
	if sha == "" {
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+c.value("ref"))
	}
	suites := slices.DeleteFunc(s.suitesOf(c.repo, sha), func(u *suite) bool {
		id, name := c.query("app_id"), c.query("check_name")
		return id != "" && id != strconv.FormatInt(u.app.id, 10) ||
			name != "" && !slices.ContainsFunc(u.runs, func(r *run) bool { return r.name == name })
	})
	return pageIn(c, "check_suites", suites, s.suiteInAPI)
}

func (s *Server) suiteInAPI(u *suite) object {
	o := s.suiteShown(u)
	o["repository"] = s.repository(u.repo)
	return o
}

func (s *Server) findSuite(c *call) *suite {
	if u := s.suites[c.id("check_suite_id")]; u != nil && u.repo == c.repo {
		return u
	}
	return nil
}

// GET /repos/{owner}/{repo}/check-suites/{check_suite_id}
func (s *Server) getSuite(c *call) reply {
	if u := s.findSuite(c); u != nil {
		return ok(s.suiteInAPI(u))
	}
	return fail(http.StatusNotFound, "Not Found")
}

// GET /repos/{owner}/{repo}/check-suites/{check_suite_id}/check-runs
func (s *Server) listRunsOfSuite(c *call) reply {
	if u := s.findSuite(c); u != nil {
		return s.runsOf(c, []*suite{u})
	}
	return fail(http.StatusNotFound, "Not Found")
}

// POST /repos/{owner}/{repo}/check-suites
func (s *Server) createSuite(c *call) reply {
	var in struct {
		HeadSHA string `json:"head_sha"`
	}
	if r, ok := c.decode(&in); !ok {
		return r
	}
	if len(in.HeadSHA) != 40 || c.repo.git.resolve(in.HeadSHA) == "" {
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+in.HeadSHA)
	}
	known := len(s.suitesOf(c.repo, in.HeadSHA))
	u := s.suiteFor(c.repo, c.installation.app, in.HeadSHA)
	status := http.StatusOK
	if len(s.suitesOf(c.repo, in.HeadSHA)) > known {
		status = http.StatusCreated
	}
	return reply{status: status, body: s.suiteInAPI(u)}
}

// POST /repos/{owner}/{repo}/check-suites/{check_suite_id}/rerequest
func (s *Server) rerequestSuite(c *call) reply {
	u := s.findSuite(c)
	if u == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	s.emitSuite(u, c.actor(), "rerequested")
	return reply{status: http.StatusCreated, body: object{}}
}

// PATCH /repos/{owner}/{repo}/check-suites/preferences
func (s *Server) setSuitePreferences(c *call) reply {
	var in struct {
		Auto []struct {
			AppID   int64 `json:"app_id"`
			Setting bool  `json:"setting"`
		} `json:"auto_trigger_checks"`
	}
	if r, ok := c.decode(&in); !ok {
		return r
	}
	list := []object{}
	for _, p := range in.Auto {
		c.repo.noSuites[p.AppID] = !p.Setting
		list = append(list, object{"app_id": p.AppID, "setting": p.Setting})
	}
	return ok(object{"preferences": object{"auto_trigger_checks": list}, "repository": s.repository(c.repo)})
}
