package githubsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

func (s *Server) deliveryShown(d *delivery) object {
	o := object{"id": d.ID, "guid": d.GUID, "delivered_at": stamp(d.At), "redelivery": d.Redelivery, "duration": d.duration.Seconds(), "status": d.Status,
		"status_code": d.StatusCode, "event": d.Event, "action": text(d.Action), "installation_id": d.Installation, "repository_id": nil, "throttled_at": nil}
	if d.Repository != 0 {
		o["repository_id"] = d.Repository
	}
	if d.Status == "" {
		o["status"] = "pending"
	}
	delete(o, "throttled_at")
	return o
}

// GET /app/hook/deliveries, newest first; the cursor is the id before the next page.
func (s *Server) listDeliveries(c *call) reply {
	size, err := strconv.Atoi(c.query("per_page"))
	if err != nil || size < 1 {
		size = 30
	}
	size = min(size, 100)
	before := int64(1) << 62
	if cursor := c.query("cursor"); cursor != "" {
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil {
			return fail(http.StatusUnprocessableEntity, "Invalid cursor")
		}
	}
	oldest := s.now().Add(-listedFor)
	out := []object{}
	var header http.Header
	for _, d := range slices.Backward(s.deliveries) {
		if d.app != c.app || d.ID >= before || d.At.Before(oldest) {
			continue
		}
		if status := c.query("status"); status == "success" && d.StatusCode/100 != 2 || status == "failure" && (d.StatusCode/100 == 2 || d.Status == "") {
			continue
		}
		if len(out) == size {
			q := c.r.URL.Query()
			q.Set("cursor", fmt.Sprint(out[size-1]["id"]))
			header = http.Header{"Link": {fmt.Sprintf(`<%s%s?%s>; rel="next"`, c.base, c.r.URL.Path, q.Encode())}}
			break
		}
		out = append(out, s.deliveryShown(d))
	}
	return reply{status: http.StatusOK, body: out, header: header}
}

func (s *Server) findDelivery(c *call) *delivery {
	for _, d := range s.deliveries {
		if d.ID == c.id("delivery_id") && d.app == c.app {
			return d
		}
	}
	return nil
}

// GET /app/hook/deliveries/{delivery_id}
func (s *Server) getDelivery(c *call) reply {
	d := s.findDelivery(c)
	if d == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	flat := func(h http.Header) object {
		o := object{}
		for k := range h {
			o[k] = h.Get(k)
		}
		return o
	}
	o := s.deliveryShown(d)
	o["url"] = d.app.hookURL
	o["request"] = object{"headers": flat(d.request), "payload": json.RawMessage(d.Payload)}
	o["response"] = object{"headers": flat(d.headers), "payload": d.answer}
	return ok(o)
}

// POST /app/hook/deliveries/{delivery_id}/attempts
func (s *Server) attemptDelivery(c *call) reply {
	d := s.findDelivery(c)
	if d == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	s.redeliver(d)
	return reply{status: http.StatusAccepted, body: object{}}
}
