package auth

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
)

// ErrForbidden means that this person may not list or end those sessions.
var ErrForbidden = errors.New("these sessions are not yours to see or end")

// Session is a session as lists show it.
type Session struct {
	ID      string
	Person  int64
	Login   string
	Agent   string // what the browser calls itself: of outside origin
	Created time.Time
	Seen    time.Time // used last, to about a minute
	Until   time.Time // over at, unless used before
	Ends    time.Time // over at in any case
}

func shown(all []store.Session) []Session {
	var out []Session
	for _, s := range all {
		out = append(out, Session{s.ID, s.Person, s.Login, s.Agent, s.Created, s.Seen, s.Until, s.Ends})
	}
	return out
}

// Sessions are one's own sessions, oldest first.
func (a *Auth) Sessions(ctx context.Context, c Current) ([]Session, error) {
	if !access.Can(c.Person, access.EndOwnSessions, access.On{Person: c.ID}) {
		return nil, ErrForbidden
	}
	all, err := a.home.SessionsOf(ctx, c.ID, a.opts.Now())
	return shown(all), err
}

// Reaching are the sessions of all who have a role in an account, by id, at most limit of them after an id ("" for
// the first); for its owners.
func (a *Auth) Reaching(ctx context.Context, c Current, account name.Account, after string, limit int) ([]Session, error) {
	if !access.Can(c.Person, access.EndAnySessions, access.On{Account: account}) {
		return nil, ErrForbidden
	}
	all, err := a.home.SessionsReaching(ctx, account, a.opts.Now(), after, limit)
	return shown(all), err
}

// End ends a session: one's own, or one that reaches an account that one owns. One that is not there, or that is
// none of one's business, is ErrForbidden.
func (a *Auth) End(ctx context.Context, c Current, id string) error {
	s, err := a.home.SessionByID(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return ErrForbidden
	}
	if err != nil {
		return err
	}
	own := access.Can(c.Person, access.EndOwnSessions, access.On{Person: s.Person})
	reason := "ended by the person"
	if !own {
		reason = "ended by an owner of an account"
		for _, account := range s.Accounts {
			own = own || access.Can(c.Person, access.EndAnySessions, access.On{Account: account})
		}
	}
	if !own {
		return ErrForbidden
	}
	return a.endSession(ctx, s, actor(c.ID, c.Login), reason)
}

// EndAll ends one's other sessions, and returns how many.
func (a *Auth) EndAll(ctx context.Context, c Current) (int, error) {
	all, err := a.Sessions(ctx, c)
	if err != nil {
		return 0, err
	}
	return a.endThese(ctx, c, all)
}

// EndAccount ends the sessions of all who reach an account but one's own current one, and returns how many; for its
// owners.
func (a *Auth) EndAccount(ctx context.Context, c Current, account name.Account) (n int, err error) {
	after := ""
	for {
		some, err := a.Reaching(ctx, c, account, after, 100)
		if err != nil || len(some) == 0 {
			return n, err
		}
		after = some[len(some)-1].ID
		m, err := a.endThese(ctx, c, some)
		if n += m; err != nil {
			return n, err
		}
	}
}

func (a *Auth) endThese(ctx context.Context, c Current, all []Session) (n int, err error) {
	for _, s := range all {
		if s.ID == c.Session {
			continue
		}
		if err := a.End(ctx, c, s.ID); errors.Is(err, ErrForbidden) {
			continue // gone meanwhile
		} else if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// end serves POST /auth/sessions/end with one of: session=ID; all=mine; account=ID.
func (a *Auth) end(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	c, _ := From(r.Context())
	ended, err := 1, error(nil)
	switch account, accountErr := name.ParseAccount(r.PostFormValue("account")); {
	case r.PostFormValue("session") != "":
		err = a.End(r.Context(), c, r.PostFormValue("session"))
	case r.PostFormValue("all") == "mine":
		ended, err = a.EndAll(r.Context(), c)
	case accountErr == nil:
		ended, err = a.EndAccount(r.Context(), c, account)
	default:
		err = &refusal{Page: Page{Status: http.StatusBadRequest, Title: "Which session?", Sentence: "The request names no session, so nothing was ended. Go back and choose one."}}
	}
	if errors.Is(err, ErrForbidden) {
		err = &refusal{Page: Page{Status: http.StatusForbidden, Title: "Not yours to end",
			Sentence: "You may end your own sessions, and those that reach an account that you own. Nothing was ended; perhaps it is over already."}}
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	if next := r.PostFormValue("next"); next != "" {
		http.Redirect(w, r, safeNext(next), http.StatusSeeOther)
		return
	}
	a.opts.Pages(w, r, Page{Status: http.StatusOK, Title: "Ended", Sentence: "Sessions ended: " + strconv.Itoa(ended) + ".", Link: "/", LinkText: "Go on"})
}
