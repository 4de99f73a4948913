package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	gogithub "github.com/google/go-github/v62/github"

	"github.com/noxaudit/noxaudit/checks/gate"
)

const (
	annotationBatch  = 50   // what one request may carry
	annotationsMost  = 1000 // of one run; more help nobody and cost a call for every fifty
	checksWrite      = "checks: write"
	findPages        = 10
	statusRunning    = "in_progress"
	statusCompleted  = "completed"
	conclusionPass   = "success"
	conclusionFailed = "failure"
)

// Publish creates the check run, or brings the one of c.ID up to date, and returns its id, with an error too when
// it is known. Annotations go in batches of 50; the conclusion comes with the last one, so that no run is ever
// complete and half annotated. A run that GitHub has forgotten (it keeps them about 400 days) is made again.
//
// Annotations cannot be taken back: on a run that may have some, only those that it lacks are added.
func (a *App) Publish(ctx context.Context, c gate.Check, retry bool) (int64, error) {
	p, err := a.post(c)
	if err != nil {
		return c.ID, err
	}
	if p.id == 0 {
		if retry || a.runs.has(p.unsure()) {
			if p.id, err = p.find(ctx); err != nil {
				return 0, err
			}
		}
		if p.id == 0 {
			if err := p.create(ctx); err != nil || p.done {
				return p.id, err
			}
		}
	}
	err = p.update(ctx)
	if forgotten(err) && c.ID != 0 && p.id == c.ID {
		again := c
		again.ID = 0
		return a.Publish(ctx, again, false)
	}
	return p.id, mapped(err, p.doing(), checksWrite)
}

// posting is one Publish under way.
type posting struct {
	app    *App
	client *gogithub.Client
	check  gate.Check
	shown  shown
	id     int64 // 0 until the run is known
	fresh  bool  // just created: nobody else has put annotations on it
	done   bool  // the run is as it should be
}

func (a *App) post(c gate.Check) (*posting, error) {
	if c.Head.IsZero() || !plainName(c.Origin.Owner) || !plainName(c.Origin.Name) {
		return nil, errors.New("check run: no commit, or no repository to put it on")
	}
	if c.ID == 0 && c.ExternalID == "" {
		return nil, errors.New("check run: without an external id it could not be found again")
	}
	n, err := a.installation(c.Origin.Installation)
	if err != nil {
		return nil, err
	}
	return &posting{app: a, client: n.client, check: c, shown: fit(c), id: c.ID}, nil
}

func (p *posting) doing() string {
	return fmt.Sprintf("check run on %s/%s at %s", p.check.Origin.Owner, p.check.Origin.Name, p.check.Head.Short())
}

// bare is what the App remembers of a run that has no annotations; unsure of one that may exist or not.
func (p *posting) bare() string { return "bare " + strconv.FormatInt(p.id, 10) }
func (p *posting) unsure() string {
	return "unsure " + p.check.Origin.Repo.ID + " " + p.check.ExternalID
}

// find looks for our run of the external id on the commit; 0 when there is none.
func (p *posting) find(ctx context.Context) (int64, error) {
	opts := &gogithub.ListCheckRunsOptions{
		CheckName: gogithub.String(CheckName), Filter: gogithub.String("all"),
		ListOptions: gogithub.ListOptions{PerPage: 100},
	}
	var found int64
	for range findPages {
		list, resp, err := p.client.Checks.ListCheckRunsForRef(ctx, p.check.Origin.Owner, p.check.Origin.Name, p.check.Head.String(), opts)
		if err != nil {
			return 0, mapped(err, "look for the "+p.doing(), "checks: read")
		}
		for _, run := range list.CheckRuns {
			ours := run.App == nil || run.App.GetID() == p.app.id
			if ours && run.GetExternalID() == p.check.ExternalID {
				found = max(found, run.GetID())
			}
		}
		if resp.NextPage == 0 {
			break
		}
		opts.Page = resp.NextPage
	}
	return found, nil
}

// create makes the run with the first annotations. Nothing tells whether a request without an answer made one;
// the App remembers that, and looks before it makes another.
func (p *posting) create(ctx context.Context) error {
	batch := p.batch()
	last := len(batch) == len(p.shown.annotations)
	opts := gogithub.CreateCheckRunOptions{
		Name: CheckName, HeadSHA: p.check.Head.String(), ExternalID: &p.check.ExternalID,
		DetailsURL: p.shown.details, Output: p.output(batch), Actions: p.shown.actions,
		StartedAt: stamp(p.check.Started),
	}
	opts.Status, opts.Conclusion, opts.CompletedAt = p.state(last)
	run, _, err := p.client.Checks.CreateCheckRun(ctx, p.check.Origin.Owner, p.check.Origin.Name, opts)
	if err != nil {
		var answer *gogithub.ErrorResponse
		var u *Unavailable
		certain := errors.As(err, &answer) || errors.As(err, &u) && !u.Ambiguous || errors.Is(err, gate.ErrGitHubGone)
		if !certain {
			p.app.runs.add(p.unsure())
		}
		return mapped(err, "create the "+p.doing(), checksWrite)
	}
	if p.id = run.GetID(); p.id <= 0 {
		p.app.runs.add(p.unsure())
		return fmt.Errorf("create the %s: %w", p.doing(), &Unavailable{Cause: errors.New("the answer names no run"), Ambiguous: true})
	}
	p.app.runs.drop(p.unsure())
	if len(batch) == 0 {
		p.app.runs.add(p.bare())
	}
	p.shown.annotations = p.shown.annotations[len(batch):]
	p.done, p.fresh = last, true
	return nil
}

// update brings the run to its state, annotations first.
func (p *posting) update(ctx context.Context) error {
	if !p.fresh && !p.app.runs.has(p.bare()) {
		if err := p.subtract(ctx); err != nil {
			return err
		}
	}
	for recovered := false; ; {
		batch := p.batch()
		last := len(batch) == len(p.shown.annotations)
		opts := gogithub.UpdateCheckRunOptions{
			Name: CheckName, DetailsURL: p.shown.details, Output: p.output(batch), Actions: p.shown.actions,
		}
		if p.check.ExternalID != "" {
			opts.ExternalID = &p.check.ExternalID
		}
		opts.Status, opts.Conclusion, opts.CompletedAt = p.state(last)
		call := ctx
		if len(batch) > 0 {
			p.app.runs.drop(p.bare())
			call = context.WithValue(ctx, notTwice{}, true)
		}
		_, _, err := p.client.Checks.UpdateCheckRun(call, p.check.Origin.Owner, p.check.Origin.Name, p.id, opts)
		var u *Unavailable
		if errors.As(err, &u) && u.Ambiguous && len(batch) > 0 && !recovered {
			// The batch may be there: look, then send what is missing.
			recovered = true
			if err := p.app.opts.Sleep(ctx, firstPause); err != nil {
				return err
			}
			if err := p.subtract(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		p.shown.annotations = p.shown.annotations[len(batch):]
		if last {
			p.done = true
			return nil
		}
	}
}

// subtract takes away the annotations that the run already has.
func (p *posting) subtract(ctx context.Context) error {
	if len(p.shown.annotations) == 0 {
		return nil
	}
	has := map[string]bool{}
	opts := &gogithub.ListOptions{PerPage: 100}
	for range annotationsMost/100 + findPages {
		list, resp, err := p.client.Checks.ListCheckRunAnnotations(ctx, p.check.Origin.Owner, p.check.Origin.Name, p.id, opts)
		if err != nil {
			return err
		}
		for _, a := range list {
			has[place(a)] = true
		}
		if resp.NextPage == 0 {
			break
		}
		opts.Page = resp.NextPage
	}
	var missing []*gogithub.CheckRunAnnotation
	for _, a := range p.shown.annotations {
		if !has[place(a)] {
			missing = append(missing, a)
		}
	}
	p.shown.annotations = missing
	return nil
}

// place is what makes two annotations one for a reader.
func place(a *gogithub.CheckRunAnnotation) string {
	return fmt.Sprintf("%s\x00%d\x00%d\x00%s\x00%s", a.GetPath(), a.GetStartLine(), a.GetEndLine(), a.GetAnnotationLevel(), a.GetTitle())
}

func (p *posting) batch() []*gogithub.CheckRunAnnotation {
	return p.shown.annotations[:min(len(p.shown.annotations), annotationBatch)]
}

func (p *posting) output(batch []*gogithub.CheckRunAnnotation) *gogithub.CheckRunOutput {
	return &gogithub.CheckRunOutput{Title: &p.shown.title, Summary: &p.shown.summary, Text: p.shown.text, Annotations: batch}
}

// state is in progress until the last call of a completed check. There are two conclusions and no third: neutral,
// skipped and cancelled would let a required check pass, or hang.
func (p *posting) state(last bool) (status, conclusion *string, finished *gogithub.Timestamp) {
	if !p.check.Completed || !last {
		return gogithub.String(statusRunning), nil, nil
	}
	conclusion = gogithub.String(conclusionPass)
	if p.check.Blocked {
		conclusion = gogithub.String(conclusionFailed)
	}
	return gogithub.String(statusCompleted), conclusion, stamp(p.check.Finished)
}

func stamp(t time.Time) *gogithub.Timestamp {
	if t.IsZero() {
		return nil
	}
	return &gogithub.Timestamp{Time: t.UTC().Truncate(time.Second)}
}

// forgotten reports whether GitHub no longer has the run; the repository may be there all the same.
func forgotten(err error) bool {
	var answer *gogithub.ErrorResponse
	if !errors.As(err, &answer) || answer.Response == nil {
		return false
	}
	return answer.Response.StatusCode == http.StatusNotFound || answer.Response.StatusCode == http.StatusGone
}

// memory is a bounded set that forgets the oldest: what it holds saves a call or warns, nothing depends on it.
type memory struct {
	mu    sync.Mutex
	known map[string]bool
	order []string
	next  int
}

func newMemory(size int) *memory {
	return &memory{known: make(map[string]bool, size), order: make([]string, size)}
}

func (m *memory) has(s string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[s]
}

func (m *memory) add(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[s] {
		return
	}
	delete(m.known, m.order[m.next])
	m.known[s], m.order[m.next] = true, s
	m.next = (m.next + 1) % len(m.order)
}

func (m *memory) drop(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, s)
}
