package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
)

// blobWork is one blob auditor's share of one snapshot.
type blobWork struct {
	lifted
	auditor BlobAuditor
	part    *part
	base    *part           // the auditor's view of the base, nil where all files have to be looked at
	changes []source.Change // from the base, with base
	todo    []item
}

// item is one file that one auditor has to look at.
type item struct {
	entry source.Entry
	key   string // of the cache
}

// collect finds the files that the auditor has to look at. What the base's view says of unchanged files is
// taken over: an equal blob at an equal path cannot have another result.
func (w *blobWork) collect(s *source.Snapshot) {
	entries := s.Entries()
	if w.base != nil {
		entries = w.inherit(s)
	}
	for _, e := range entries {
		reads, ok := w.auditor.Reads(e.Path)
		if !ok || !e.Mode.IsFile() {
			continue
		}
		w.part.files++
		k := newKey("blob", w.key)
		k.add(reads, e.Blob)
		w.todo = append(w.todo, item{e, k.String()})
	}
	// What the limits keep out is a gap for the auditors that would have looked there.
	for _, sk := range s.Skipped() {
		if _, ok := w.auditor.Reads(sk.Path); ok {
			w.part.gaps[sk.Path] = sk.Reason
			w.part.skipped++
		}
	}
	w.part.looked = w.part.files+w.part.skipped > 0
}

// inherit takes over what the base's view says of unchanged paths and returns the files that are left to look
// at: all of each changed path, since two files may share a path that had to be made printable.
func (w *blobWork) inherit(s *source.Snapshot) []source.Entry {
	changed, raw := map[string]bool{}, map[string]bool{}
	w.part.files = w.base.files
	for _, c := range w.changes {
		changed[c.Path] = true
		if c.From != nil && w.reads(*c.From) {
			w.part.files--
		}
		if c.To != nil {
			raw[c.To.Raw] = true
		}
	}
	var left []source.Entry
	for path := range changed {
		for _, e := range s.Named(path) {
			left = append(left, e)
			if !raw[e.Raw] && w.reads(e) {
				w.part.files-- // unchanged: it will be counted once more
			}
		}
	}
	for path, ds := range w.base.drafts {
		if !changed[path] {
			w.part.drafts[path] = ds
		}
	}
	for path, reason := range w.base.gaps {
		if len(s.Named(path)) > 0 && !changed[path] {
			w.part.gaps[path] = reason
		}
	}
	w.part.passing = w.base.passing
	return left
}

func (w *blobWork) reads(e source.Entry) bool {
	if !e.Mode.IsFile() {
		return false
	}
	_, ok := w.auditor.Reads(e.Path)
	return ok
}

// blobs lets every blob auditor look at a snapshot: first what is remembered of the whole tree, then what is
// remembered of single files, then the files themselves, each read once for all auditors.
func (r *run) blobs(ctx context.Context, stage string, s *source.Snapshot, works []*blobWork) error {
	trees := make([]string, len(works))
	for i, w := range works {
		k := newKey("blobs of tree", w.key)
		k.add(s.ID())
		k.skipped(s, func(string) bool { return true })
		trees[i] = k.String()
	}
	whole := r.cached(ctx, trees)
	var open []*blobWork
	for i, w := range works {
		if body, ok := whole[trees[i]]; ok {
			if p, err := decodePart(body); err == nil {
				*w.part = *p
				continue
			}
		}
		w.collect(s)
		open = append(open, w)
	}
	if err := r.files(ctx, stage, s, open); err != nil {
		return err
	}
	remember := map[string][]byte{}
	for i, w := range works {
		if w.part.passing || whole[trees[i]] != nil {
			continue
		}
		if body, err := encodePart(w.part); err == nil {
			remember[trees[i]] = body
		}
	}
	r.remember(ctx, remember)
	return ctx.Err()
}

// job is one file that has to be read, and the auditors that wait for it.
type job struct {
	entry source.Entry
	works []*blobWork
	keys  []string
}

func (r *run) files(ctx context.Context, stage string, s *source.Snapshot, works []*blobWork) error {
	var keys []string
	for _, w := range works {
		for _, it := range w.todo {
			keys = append(keys, it.key)
		}
	}
	known := r.cached(ctx, keys)
	var jobs []*job
	byFile := map[string]*job{}
	for _, w := range works {
		for _, it := range w.todo {
			if body, ok := known[it.key]; ok {
				if ds, err := decodeDrafts(body); err == nil {
					r.stats.Remembered++
					w.part.add(it.entry.Path, ds)
					continue
				}
			}
			j := byFile[it.entry.Raw]
			if j == nil {
				j = &job{entry: it.entry}
				byFile[it.entry.Raw] = j
				jobs = append(jobs, j)
			}
			j.works = append(j.works, w)
			j.keys = append(j.keys, it.key)
		}
	}
	return r.work(ctx, stage, s, jobs)
}

// flushEvery is how many results are remembered at once: an interrupted run keeps what it has done.
const flushEvery = 256

func (r *run) work(ctx context.Context, stage string, s *source.Snapshot, jobs []*job) error {
	if len(jobs) == 0 {
		return ctx.Err()
	}
	queue := make(chan *job)
	var wg sync.WaitGroup
	done := 0
	fresh := map[string][]byte{}
	finish := func(j *job, results map[string][]byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		done++
		r.stats.Audited++
		for k, v := range results {
			fresh[k] = v
		}
		if r.target.Progress != nil {
			r.target.Progress(Progress{Done: done, Total: len(jobs), Stage: stage})
		}
		if len(fresh) >= flushEvery {
			r.remember(ctx, fresh)
			fresh = map[string][]byte{}
		}
	}
	for range min(r.opts.Workers, len(jobs)) {
		wg.Go(func() {
			for j := range queue {
				finish(j, r.file(ctx, s, j))
			}
		})
	}
feed:
	for _, j := range jobs {
		select {
		case queue <- j:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	wg.Wait()
	// An interrupted run still remembers what it has done, on a context of its own.
	r.remember(context.WithoutCancel(ctx), fresh)
	return ctx.Err()
}

// file reads one file and lets the auditors that wait for it look. It returns what may be remembered.
func (r *run) file(ctx context.Context, s *source.Snapshot, j *job) map[string][]byte {
	body, err := s.Read(ctx, j.entry)
	if err != nil {
		// A file too large is so at every look; any other failure may pass.
		passing := !errors.Is(err, source.ErrTooLarge)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range j.works {
			w.part.gap(j.entry.Path, err.Error(), passing)
		}
		return nil
	}
	fresh := map[string][]byte{}
	for i, w := range j.works {
		b := Blob{Path: j.entry.Path, Bytes: body, Seal: r.target.Seal}
		ds, err := guard(ctx, r.opts.BlobTimeout, func(ctx context.Context) ([]finding.Draft, error) { return w.auditor.AuditBlob(ctx, b) })
		for i := range ds {
			r.maskDraft(&ds[i])
		}
		r.mu.Lock()
		// What was found before a failure still counts.
		w.part.add(j.entry.Path, ds)
		if err != nil {
			w.part.gap(j.entry.Path, r.mask(err.Error()), true)
		}
		r.mu.Unlock()
		if err == nil {
			if enc, err := encodeDrafts(ds); err == nil {
				fresh[j.keys[i]] = enc
			}
		}
	}
	return fresh
}

func (p *part) add(path string, ds []finding.Draft) {
	if len(ds) > 0 {
		p.drafts[path] = append(p.drafts[path], ds...)
	}
}

// Limits on what is listed. A file or a tool that floods the list must not take the memory, the database or the
// reader's attention of all others; what is left out is a gap, so that it is never silent.
const (
	maxPerFile    = 1_000
	maxPerAuditor = 20_000
)

// limit keeps the gravest findings of each file, and of all files those of the first paths. It decides by the
// part alone, so that a remembered part gives the same.
func (p *part) limit() {
	total := 0
	for _, path := range slices.Sorted(maps.Keys(p.drafts)) {
		ds := p.drafts[path]
		most := min(maxPerFile, maxPerAuditor-total)
		if len(ds) > most {
			ds = slices.Clone(ds)
			slices.SortStableFunc(ds, func(a, b finding.Draft) int {
				return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Confidence, a.Confidence), cmp.Compare(a.Region.StartLine, b.Region.StartLine))
			})
			p.gaps[path] = fmt.Sprintf("%d of its %d findings are listed", most, len(ds))
			p.drafts[path] = ds[:most]
			if most == 0 {
				delete(p.drafts, path)
			}
		}
		total += min(len(ds), most)
	}
}

func (p *part) gap(path, reason string, passing bool) {
	p.gaps[path] = reason
	p.passing = p.passing || passing
}
