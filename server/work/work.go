// Package work runs what webhooks leave to be done: River jobs that process deliveries and look at heads, and the
// rounds that find whatever a lost webhook, a lost job or a killed process left behind.
//
// The truth is in the store: a delivery is pending until it has an outcome, a head is wanted until its generation is
// done. A job only says "look now", so a job that is lost costs seconds and one that runs twice costs nothing. Jobs
// are unique while they wait or run; a head is never worked on twice at once.
package work

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
)

// Options are what the workers need. Gate, Hub, Parse and Jobs are required.
type Options struct {
	Gate      *gate.Gate
	Hub       gate.Hub
	Forge     gate.Forge // nil: no sweeping, no reconciling
	Parse     gate.Parse
	Jobs      string                                          // DSN of the jobs' database: postgres://… or the path of a SQLite file
	Sequence  func(ctx context.Context, a name.Account) error // moves recorded entries into the ledger; nil: nobody does
	Log       zerolog.Logger
	Workers   int           // jobs at once; 0 = 8
	Look      time.Duration // between looks for what was left behind; 0 = 2 s
	Reconcile time.Duration // between rounds over GitHub's own lists; 0 = 1 h
	Sweep     time.Duration // between looks at GitHub's deliveries; 0 = 5 min

	// Pause is how long a job that failed for the attempt-th time waits for the next try; asked is what GitHub asked
	// for, 0 for nothing. nil: what was asked for, at most 10 minutes, else 1, 2, 4 … seconds, at most a minute.
	Pause func(attempt int, asked time.Duration) time.Duration
}

// Worker runs jobs. It is made by Start and ended by Stop.
type Worker struct {
	o     Options
	queue *queue
	stop  context.CancelFunc
	wg    sync.WaitGroup
	wake  chan struct{} // the ledger has something to sequence
	again chan struct{} // GitHub's lists have changed

	arrived  chan store.DeliveryKey
	ordered  chan []store.HeadKey // wanted by what was ordered elsewhere than at GitHub
	keptAway chan store.HeadKey   // heads whose job another one kept away
}

type deliveryArgs struct {
	Account string `json:"account"`
	GUID    string `json:"guid"`
}

func (deliveryArgs) Kind() string { return "delivery" }

type headArgs struct {
	Account    string `json:"account"`
	Repository string `json:"repository"`
	SHA        string `json:"sha"`
}

func (headArgs) Kind() string { return "head" }

// answerArgs name a command whose author is owed an answer.
type answerArgs struct {
	Account    string `json:"account"`
	Repository string `json:"repository"`
	Surface    string `json:"surface"`
	ID         int64  `json:"id"`
}

func (answerArgs) Kind() string { return "answer" }

// once makes a job unique by its arguments for as long as it waits or runs.
func once() *river.InsertOpts {
	return &river.InsertOpts{MaxAttempts: 25, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
	}}}
}

// Start begins to work. What was left by an earlier process is taken up at once.
func Start(ctx context.Context, o Options) (*Worker, error) {
	if o.Workers <= 0 {
		o.Workers = 8
	}
	if o.Look <= 0 {
		o.Look = 2 * time.Second
	}
	if o.Reconcile <= 0 {
		o.Reconcile = time.Hour
	}
	if o.Sweep <= 0 {
		o.Sweep = 5 * time.Minute
	}
	if o.Pause == nil {
		o.Pause = Pause
	}
	w := &Worker{
		o: o, wake: make(chan struct{}, 1), again: make(chan struct{}, 1),
		arrived: make(chan store.DeliveryKey, 1024), ordered: make(chan []store.HeadKey, 256), keptAway: make(chan store.HeadKey, 64),
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &deliveryWorker{w: w})
	river.AddWorker(workers, &headWorker{w: w})
	river.AddWorker(workers, &answerWorker{w: w})
	q, err := openQueue(ctx, o.Jobs, workers, o.Workers)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	w.queue = q
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	if err := q.start(loops); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("jobs: %w", err), q.close())
	}
	w.wg.Go(func() { w.jobs(loops) })
	w.wg.Go(func() { w.eager(loops) })
	w.loop(loops, o.Look, nil, w.look)
	w.loop(loops, dropEvery, nil, w.drop)
	if o.Sequence != nil {
		w.wg.Go(func() { w.sequence(loops) })
	}
	if o.Forge != nil {
		w.loop(loops, o.Sweep, nil, w.sweep)
		w.loop(loops, o.Reconcile, w.again, w.reconcile)
	}
	return w, nil
}

// Stop ends the work: jobs under way are given until ctx ends, and what they did not finish is taken up by the
// next process.
func (w *Worker) Stop(ctx context.Context) error {
	err := w.queue.stop(ctx)
	w.stop()
	w.wg.Wait()
	if w.o.Sequence != nil {
		err = errors.Join(err, w.sequenceAll(ctx))
	}
	return errors.Join(err, w.queue.close())
}

// loop calls a round now and then again and again, or when it is poked, until the context ends.
func (w *Worker) loop(ctx context.Context, every time.Duration, poked <-chan struct{}, round func(context.Context) error) {
	w.wg.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			if err := round(ctx); err != nil && ctx.Err() == nil {
				w.o.Log.Warn().Err(err).Msg("round")
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-poked:
			}
		}
	})
}

// The bodies of webhooks are kept for a while to look into, then dropped: what matters of them is in entries.
const (
	keepBodies = 30 * 24 * time.Hour
	dropEvery  = time.Hour
)

func (w *Worker) drop(ctx context.Context) error {
	before := w.o.Gate.Now().Add(-keepBodies)
	accounts, err := w.o.Gate.Store.AccountsWithBodies(ctx, before)
	for _, a := range accounts {
		_, dropErr := w.o.Gate.Store.For(a).DropDeliveryBodies(ctx, before)
		err = errors.Join(err, dropErr)
	}
	return err
}

// Delivered says that a delivery is in the inbox. It does not wait.
func (w *Worker) Delivered(key store.DeliveryKey) {
	select {
	case w.arrived <- key:
	default: // the next look finds it
	}
}

// Ordered says that something was recorded that somebody ordered elsewhere than at GitHub, and that wants these heads
// looked at. It does not wait.
func (w *Worker) Ordered(heads []store.HeadKey) {
	w.sequenceSoon()
	select {
	case w.ordered <- heads:
	default: // the next look finds them
	}
}

// jobs makes jobs of deliveries that arrive and of heads that are ordered. GitHub does not wait for it: the delivery is durable already.
func (w *Worker) jobs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-w.arrived:
			if _, err := w.queue.insert(ctx, deliveryArgs{key.Account.String(), key.GUID}); err != nil && ctx.Err() == nil {
				w.o.Log.Warn().Err(err).Str("delivery", key.GUID).Msg("job")
			}
		case heads := <-w.ordered:
			if err := w.wanted(ctx, heads); err != nil && ctx.Err() == nil {
				w.o.Log.Warn().Err(err).Msg("job")
			}
		}
	}
}

func (w *Worker) wanted(ctx context.Context, heads []store.HeadKey) error {
	for _, h := range heads {
		refused, err := w.queue.insert(ctx, headArgs{h.Account.String(), h.Repository, h.SHA.String()})
		if err != nil {
			return err
		}
		if refused {
			select {
			case w.keptAway <- h:
			default: // the look finds it
			}
		}
	}
	return nil
}

// lookLimit is how many things one look takes up.
const lookLimit = 500

// look makes jobs of what has none: a webhook whose job was lost, a head that was wanted while its job ended.
func (w *Worker) look(ctx context.Context) error {
	if err := w.queue.free(ctx); err != nil {
		return err
	}
	deliveries, err := w.o.Gate.Store.PendingDeliveries(ctx, w.o.Gate.Now().Add(-w.o.Look), lookLimit)
	if err != nil {
		return err
	}
	for _, d := range deliveries {
		if _, err := w.queue.insert(ctx, deliveryArgs{d.Account.String(), d.GUID}); err != nil {
			return err
		}
	}
	// The heads that it wants come with the others. One waiver that cannot be ended keeps nobody else waiting.
	_, dueErr := w.o.Gate.Due(ctx, lookLimit)
	heads, err := w.o.Gate.Store.WantedHeads(ctx, lookLimit)
	if err != nil {
		return errors.Join(dueErr, err)
	}
	for _, h := range heads { // one that is kept away is kept by a job that works on it, or waits to: that is no haste
		if _, err := w.queue.insert(ctx, headArgs{h.Account.String(), h.Repository, h.SHA.String()}); err != nil {
			return errors.Join(dueErr, err)
		}
	}
	owed, err := w.o.Gate.Store.UnansweredCommands(ctx, w.o.Gate.Now().Add(-w.o.Look), lookLimit)
	if err != nil {
		return errors.Join(dueErr, err)
	}
	for _, k := range owed {
		if err := w.answer(ctx, k); err != nil {
			return errors.Join(dueErr, err)
		}
	}
	return dueErr
}

func (w *Worker) answer(ctx context.Context, k store.CommandKey) error {
	_, err := w.queue.insert(ctx, answerArgs{k.Account.String(), k.Repository, k.Surface, k.ID})
	return err
}

// sweepBack is how far back GitHub's list of deliveries is read: it keeps about three days.
const sweepBack = 3 * 24 * time.Hour

func (w *Worker) sweep(ctx context.Context) error {
	n, err := gate.Sweep(ctx, w.o.Forge, w.o.Gate.Now().Add(-sweepBack))
	if n > 0 {
		w.o.Log.Info().Int("deliveries", n).Msg("asked GitHub to deliver again")
	}
	return err
}

func (w *Worker) reconcile(ctx context.Context) error {
	heads, err := w.o.Gate.Reconcile(ctx, w.o.Forge, w.o.Hub.Fetcher, w.o.Hub.People)
	return errors.Join(err, w.wanted(ctx, heads))
}

// sequenceSoon tells the sequencer that there may be something.
func (w *Worker) sequenceSoon() {
	poke(w.wake)
}

// poke wakes who waits on c, now or when it next waits.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sequence moves entries into the ledger: soon after something was recorded, and every few seconds in any case.
func (w *Worker) sequence(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		if err := w.sequenceAll(ctx); err != nil && ctx.Err() == nil {
			w.o.Log.Error().Err(err).Msg("ledger: entries wait")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-w.wake:
			// A burst becomes one batch.
			select {
			case <-ctx.Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

func (w *Worker) sequenceAll(ctx context.Context) error {
	accounts, err := w.o.Gate.Store.PendingAccounts(ctx)
	for _, a := range accounts {
		err = errors.Join(err, w.o.Sequence(ctx, a))
	}
	return err
}

// Pause is the default of Options.Pause: a check that is red or missing is somebody waiting.
func Pause(attempt int, asked time.Duration) time.Duration {
	if asked > 0 {
		return min(asked, 10*time.Minute)
	}
	return min(time.Second<<min(max(attempt-1, 0), 6), time.Minute)
}

type deliveryWorker struct {
	river.WorkerDefaults[deliveryArgs]
	w *Worker
}

func (*deliveryWorker) Timeout(*river.Job[deliveryArgs]) time.Duration { return time.Minute }

func (d *deliveryWorker) NextRetry(j *river.Job[deliveryArgs]) time.Time {
	return time.Now().Add(d.w.o.Pause(j.Attempt, 0))
}

func (d *deliveryWorker) Work(ctx context.Context, j *river.Job[deliveryArgs]) error {
	account, err := name.ParseAccount(j.Args.Account)
	if err != nil {
		return river.JobCancel(err)
	}
	heard, err := d.w.o.Gate.Hear(ctx, store.DeliveryKey{Account: account, GUID: j.Args.GUID}, d.w.o.Parse, d.w.o.Hub.People)
	if err != nil {
		return d.w.later(j.Attempt, err)
	}
	d.w.sequenceSoon()
	if heard.Reconcile {
		poke(d.w.again)
	}
	if err := d.w.wanted(ctx, heard.Heads); err != nil || heard.Answer == nil {
		return err
	}
	return d.w.answer(ctx, *heard.Answer)
}

type headWorker struct {
	river.WorkerDefaults[headArgs]
	w *Worker
}

func (*headWorker) Timeout(*river.Job[headArgs]) time.Duration { return 30 * time.Minute }

func (h *headWorker) NextRetry(j *river.Job[headArgs]) time.Time {
	return time.Now().Add(h.w.o.Pause(j.Attempt, 0))
}

func (h *headWorker) Work(ctx context.Context, j *river.Job[headArgs]) error {
	account, err := name.ParseAccount(j.Args.Account)
	if err != nil {
		return river.JobCancel(err)
	}
	sha, err := name.ParseCommit(j.Args.SHA)
	if err != nil {
		return river.JobCancel(err)
	}
	err = h.w.o.Gate.Work(ctx, store.HeadKey{Account: account, Repository: j.Args.Repository, SHA: sha}, h.w.o.Hub)
	h.w.sequenceSoon()
	return h.w.later(j.Attempt, err)
}

type answerWorker struct {
	river.WorkerDefaults[answerArgs]
	w *Worker
}

func (*answerWorker) Timeout(*river.Job[answerArgs]) time.Duration { return time.Minute }

func (a *answerWorker) NextRetry(j *river.Job[answerArgs]) time.Time {
	return time.Now().Add(a.w.o.Pause(j.Attempt, 0))
}

func (a *answerWorker) Work(ctx context.Context, j *river.Job[answerArgs]) error {
	account, err := name.ParseAccount(j.Args.Account)
	if err != nil {
		return river.JobCancel(err)
	}
	return a.w.later(j.Attempt, a.w.o.Gate.Answer(ctx, store.CommandKey{Account: account, Repository: j.Args.Repository, Surface: j.Args.Surface, ID: j.Args.ID}, a.w.o.Hub.Voice))
}

// later waits with the next try until GitHub said that it may be asked again.
func (w *Worker) later(attempt int, err error) error {
	var at interface{ RetryAt() time.Time }
	if errors.As(err, &at) {
		if d := at.RetryAt().Sub(w.o.Gate.Now()); d > 0 {
			return river.JobSnooze(w.o.Pause(attempt, d))
		}
	}
	return err
}
