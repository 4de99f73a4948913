// Package figures computes every number that a report shows: pages, exports and printed reports take theirs from
// here and add none. It reads the store and the ledger, and never writes.
//
// # What is counted
//
// A figure of an account is about the default branches of its repositories. A finding counts as open while the
// newest audit of its default branch found it, waived or not: a waiver moves a decision, it mends nothing. A
// repository that was never audited is in no sum.
//
// # Health
//
// See Health for the score. It is arithmetic on open findings and their time limits, so that everyone can redo it.
package figures

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
)

// ErrNotFound says that the account has no such thing.
var ErrNotFound = store.ErrNotFound

// Figures answers what a report asks.
type Figures struct {
	Store  *store.Store
	Now    func() time.Time
	Limits Limits                    // zero: DefaultLimits
	Ledger func(name.Account) Ledger // the log of an account; nil: there is none, and pages say so
	Keys   []string                  // verifier keys of the deployment, to check checkpoints with
}

// Account is whose figures they are.
type Account struct {
	ID    name.Account
	Login string // "" before anything named it
}

// Account is the account of this id. One that nothing was recorded about has no login.
func (f *Figures) Account(ctx context.Context, id name.Account) (Account, error) {
	d, err := f.Store.For(id).Details(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Account{}, err
	}
	return Account{ID: id, Login: d.Login}, nil
}

// AccountByLogin is the account that is called so, or was; ErrNotFound.
func (f *Figures) AccountByLogin(ctx context.Context, login string) (Account, error) {
	id, err := f.Store.AccountByLogin(ctx, login)
	if err != nil {
		return Account{}, err
	}
	return f.Account(ctx, id)
}

// Repository is a repository of the account by its id; ErrNotFound.
func (f *Figures) Repository(ctx context.Context, account name.Account, id string) (store.Repository, error) {
	return f.Store.For(account).Repository(ctx, id)
}

// RepositoryByName is the repository that is called so, or was; ErrNotFound.
func (f *Figures) RepositoryByName(ctx context.Context, account name.Account, short string) (store.Repository, error) {
	return f.Store.For(account).RepositoryByName(ctx, short)
}

// BySeverity is a number per severity; index it with a finding.Severity.
type BySeverity [finding.Critical + 1]int

// Total is the sum.
func (b BySeverity) Total() int {
	n := 0
	for _, v := range b {
		n += v
	}
	return n
}

// Limits are the days within which a finding of each severity is to be resolved; 0 for none.
type Limits [finding.Critical + 1]int

// DefaultLimits are critical 7, high 30, medium 90 and low 180 days.
var DefaultLimits = Limits{finding.Low: 180, finding.Medium: 90, finding.High: 30, finding.Critical: 7}

func (f *Figures) limits() Limits {
	if f.Limits == (Limits{}) {
		return DefaultLimits
	}
	return f.Limits
}

// Late is by how much the oldest of these findings is past its limit; 0 when it is not.
func (l Limits) Late(s finding.Severity, oldest, now time.Time) time.Duration {
	if l[s] == 0 || oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(oldest)-time.Duration(l[s])*24*time.Hour)
}

// corrupt words a stored document that cannot be read.
func corrupt(noun, key string, err error) error {
	return &store.CorruptError{Noun: noun, Key: key, Cause: fmt.Errorf("it cannot be read: %w", err)}
}
