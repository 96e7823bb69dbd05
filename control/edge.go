package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// Roles of a Member.
const (
	RoleHub  = "hub"
	RoleEdge = "edge"
	RoleNode = "node" // another engine of the cluster; not listed
)

// Enroller is a Backend with an engine, which hubs and edges may join.
type Enroller interface {
	// AddMember enrols a host, or gives an enrolled one new credentials.
	AddMember(ctx context.Context, q MemberQuery) (MemberFile, error)
	// Members returns the enrolled hosts by name.
	Members(ctx context.Context) ([]Member, error)
	// RemoveMember revokes the credentials of a host and disconnects it.
	RemoveMember(ctx context.Context, name string) error
}

// MemberQuery says which host to enrol or to remove.
type MemberQuery struct {
	Name        string   `json:"name"`
	Role        string   `json:"role"`
	Directories []string `json:"directories"` // empty means all that the configuration names
}

// MemberFile is the content of the file that a host needs. It is secret.
type MemberFile struct {
	Content string `json:"content"`
}

// Member is an enrolled host.
type Member struct {
	Name        string   `json:"name"`
	Role        string   `json:"role"`
	Directories []string `json:"directories"`
	Added       Time     `json:"added"`
	Connected   bool     `json:"connected"` // at this engine
	Since       Time     `json:"since"`     // start of the connection
	Remote      string   `json:"remote"`    // its address
}

// enrolment adds the requests of an Enroller.
func (s *Server) enrolment(mux *http.ServeMux, e Enroller) {
	mux.HandleFunc("GET /v1/edges", func(w http.ResponseWriter, r *http.Request) {
		members, err := e.Members(r.Context())
		if members == nil {
			members = []Member{}
		}
		s.answer(w, members, err)
	})
	mux.HandleFunc("POST /v1/edges/add", func(w http.ResponseWriter, r *http.Request) {
		var q MemberQuery
		if !s.read(w, r, &q) {
			return
		}
		file, err := e.AddMember(r.Context(), q)
		operatorOf(r.Context()).acted(s.log, "edge add", err, "name", q.Name, "role", q.Role)
		s.answer(w, file, err)
	})
	mux.HandleFunc("POST /v1/edges/remove", func(w http.ResponseWriter, r *http.Request) {
		var q MemberQuery
		if !s.read(w, r, &q) {
			return
		}
		err := e.RemoveMember(r.Context(), q.Name)
		operatorOf(r.Context()).acted(s.log, "edge remove", err, "name", q.Name)
		s.answer(w, struct{}{}, err)
	})
}

// Members returns the hosts that may join the engine of the daemon.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var all []Member
	return all, c.get(ctx, "/v1/edges", &all)
}

// AddMember enrols a host at the engine of the daemon.
func (c *Client) AddMember(ctx context.Context, q MemberQuery) (MemberFile, error) {
	var file MemberFile
	return file, c.post(ctx, "/v1/edges/add", q, &file)
}

// RemoveMember revokes the credentials of a host.
func (c *Client) RemoveMember(ctx context.Context, name string) error {
	return c.post(ctx, "/v1/edges/remove", MemberQuery{Name: name}, &struct{}{})
}

// post sends a request with one JSON answer.
func (c *Client) post(ctx context.Context, path string, q, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	response, err := c.do(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(http.MaxBytesReader(nil, response.Body, maxAnswer)).Decode(into)
}
