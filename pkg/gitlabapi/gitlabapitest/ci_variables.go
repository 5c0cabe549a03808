package gitlabapitest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// variable is a CI/CD variable of a project or a group.
type variable struct {
	ID          int64  `json:"id"`
	Project     int64  `json:"project,omitempty"`
	Group       int64  `json:"group,omitempty"`
	Key         string `json:"key"`
	Value       string `json:"value"`
	Type        string `json:"type"`
	Protected   bool   `json:"protected"`
	Masked      bool   `json:"masked"`
	Hidden      bool   `json:"hidden"`
	Raw         bool   `json:"raw"`
	Scope       string `json:"scope"`
	Description string `json:"description"`
}

func variableEndpoints() []endpoint {
	all := []endpoint{}
	for prefix, level := range map[string]int{"/projects/:id/variables": maintainer, "/groups/:id/variables": owner} {
		// Groups have no members of their own here: who owns the instance's projects owns them.
		h := func(do func(*call, variableOwner) *failure) handler {
			return locked(func(c *call) *failure {
				o, f := c.variableOwner(level)
				if f != nil {
					return f
				}
				return do(c, o)
			})
		}
		all = append(all,
			endpoint{"GET", prefix, false, level, h((*call).listVariables)},
			endpoint{"POST", prefix, false, level, h((*call).createVariable)},
			endpoint{"GET", prefix + "/:key", false, level, h((*call).getVariable)},
			endpoint{"PUT", prefix + "/:key", false, level, h((*call).putVariable)},
			endpoint{"DELETE", prefix + "/:key", false, level, h((*call).deleteVariable)})
	}
	return all
}

// variableOwner is whose variables a call is about: one of the two is not 0.
type variableOwner struct{ project, group int64 }

func (v *variable) of(o variableOwner) bool { return v.Project == o.project && v.Group == o.group }

func (c *call) variableOwner(level int) (variableOwner, *failure) {
	if c.project != nil {
		return variableOwner{project: c.project.ID}, nil
	}
	for _, g := range c.s.st.Groups {
		if raw := c.r.PathValue("id"); raw == id(g.ID) || strings.EqualFold(raw, g.Path) {
			if !c.person().atLeast(level) {
				return variableOwner{}, fail(http.StatusForbidden, "403 Forbidden")
			}
			return variableOwner{group: g.ID}, nil
		}
	}
	return variableOwner{}, notFound("Group")
}

func variableJSON(v *variable) map[string]any {
	body := map[string]any{"variable_type": v.Type, "key": v.Key, "value": v.Value, "hidden": v.Hidden, "protected": v.Protected, "masked": v.Masked, "raw": v.Raw,
		"environment_scope": v.Scope, "description": nil}
	if v.Hidden {
		body["value"] = nil
	}
	if v.Description != "" {
		body["description"] = v.Description
	}
	return body
}

func (c *call) listVariables(o variableOwner) *failure {
	return list(c, sorted(c.s.st.Variables, func(v *variable) bool { return v.of(o) }), variableJSON)
}

// findVariable is the variable of the key in the path and, where several have it, of the scope in the filter.
func (c *call) findVariable(o variableOwner) (*variable, *failure) {
	scope, filtered := mapOf(c.read["filter"])["environment_scope"]
	all := sorted(c.s.st.Variables, func(v *variable) bool {
		return v.of(o) && v.Key == c.r.PathValue("key") && (!filtered || v.Scope == scope)
	})
	switch {
	case len(all) == 0:
		return nil, notFound("Variable")
	case len(all) > 1:
		return nil, fail(http.StatusConflict, "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'")
	}
	return all[0], nil
}

func (c *call) getVariable(o variableOwner) *failure {
	v, f := c.findVariable(o)
	if f != nil {
		return f
	}
	return c.answer(variableJSON(v))
}

// assign takes what a request says of a variable, and checks the whole.
func (v *variable) assign(p map[string]any, free bool) *failure {
	fields := map[string]*string{"value": &v.Value, "variable_type": &v.Type, "environment_scope": &v.Scope, "description": &v.Description}
	if free && v.Group != 0 {
		delete(fields, "environment_scope")
	}
	for key, field := range fields {
		if _, ok := p[key]; ok {
			*field = text(p, key)
		}
	}
	wasHidden := v.Hidden
	for key, field := range map[string]*bool{"protected": &v.Protected, "masked": &v.Masked, "raw": &v.Raw} {
		if _, ok := p[key]; ok {
			*field = truth(p, key)
		}
	}
	if v.Type != "env_var" && v.Type != "file" {
		return failKey(http.StatusBadRequest, "error", "variable_type does not have a valid value")
	}
	problems := map[string][]string{}
	add := func(key, problem string, bad bool) {
		if bad {
			problems[key] = append(problems[key], problem)
		}
	}
	add("key", "can't be blank", v.Key == "")
	add("key", "can contain only letters, digits and '_'.", v.Key != "" && !regexp.MustCompile(`^[A-Za-z0-9_]+$`).MatchString(v.Key))
	add("key", "is too long (maximum is 255 characters)", len(v.Key) > 255)
	add("value", "is too long (maximum is 10000 characters)", len(v.Value) > 10000)
	add("description", "is too long (maximum is 255 characters)", len(v.Description) > 255)
	add("environment_scope", "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', '*' and spaces, but it cannot start or end with '/'",
		!regexp.MustCompile(`^[a-zA-Z0-9_/${}. *-]+$`).MatchString(v.Scope) || strings.HasPrefix(v.Scope, "/") || strings.HasSuffix(v.Scope, "/"))
	add("value", "is invalid", v.Masked && !maskable(v.Value, v.Raw))
	add("base", "The visibility setting cannot be changed for masked and hidden variables.", wasHidden && !v.Masked)
	if len(problems) > 0 {
		return fail(http.StatusBadRequest, problems)
	}
	return nil
}

// maskable says whether a value can be found in a log: one line without spaces and of some length and, where it is
// expanded, of few kinds of characters.
func maskable(value string, raw bool) bool {
	if raw {
		return regexp.MustCompile(`^\S{8,}$`).MatchString(value)
	}
	return regexp.MustCompile(`^[a-zA-Z0-9_+=/@:.~-]{8,}$`).MatchString(value)
}

func (c *call) taken(o variableOwner, v *variable) *failure {
	for _, other := range c.s.st.Variables {
		if other.of(o) && other.Key == v.Key && other.Scope == v.Scope && other.ID != v.ID {
			return fail(http.StatusBadRequest, map[string][]string{"key": {"(" + v.Key + ") has already been taken"}})
		}
	}
	return nil
}

func (c *call) createVariable(o variableOwner) *failure {
	p, f := c.body("key", "value")
	if f != nil {
		return f
	}
	v := &variable{Project: o.project, Group: o.group, Key: text(p, "key"), Type: "env_var", Scope: "*"}
	if truth(p, "masked_and_hidden") {
		v.Masked, v.Hidden = true, true
	}
	if f = v.assign(p, c.s.cfg.Free); f == nil {
		f = c.taken(o, v)
	}
	if f != nil {
		return f
	}
	v.ID = c.s.st.next("variable")
	c.s.st.Variables[v.ID] = v
	return c.made(variableJSON(v))
}

func (c *call) putVariable(o variableOwner) *failure {
	v, f := c.findVariable(o)
	if f != nil {
		return f
	}
	next := *v
	if f = next.assign(c.read, c.s.cfg.Free); f == nil {
		f = c.taken(o, &next)
	}
	if f != nil {
		return f
	}
	*v = next
	return c.changed(variableJSON(v))
}

func (c *call) deleteVariable(o variableOwner) *failure {
	v, f := c.findVariable(o)
	if f != nil {
		return f
	}
	delete(c.s.st.Variables, v.ID)
	return c.gone()
}

// settings are the variables of the project and its group that a pipeline's jobs get: protected ones on protected
// refs, scoped ones where the environment matches. environment is "" where none is known yet: then no scoped ones.
// The caller holds the lock.
func (s *Server) settings(p *project, pl *pipeline, environment string) []*variable {
	protected := p.runsProtected(pl)
	best := map[string]*variable{}
	for _, v := range sorted(s.st.Variables, func(v *variable) bool {
		return (v.Project == p.ID || v.Group == p.Group && v.Group != 0) && (!v.Protected || protected) && (v.Scope == "*" || environment != "" && wildcard(v.Scope, environment))
	}) {
		if have := best[v.Key]; have == nil || v.precedes(have) {
			best[v.Key] = v
		}
	}
	var out []*variable
	for _, key := range keysOf(best) {
		out = append(out, best[key])
	}
	return out
}

// precedes: a project's variable wins over its group's and, among those of one owner, the closer scope.
func (v *variable) precedes(other *variable) bool {
	if v.Project != other.Project {
		return v.Project != 0
	}
	exact, otherExact := !strings.Contains(v.Scope, "*"), !strings.Contains(other.Scope, "*")
	if exact != otherExact {
		return exact
	}
	return len(v.Scope) > len(other.Scope)
}

// values are what the variables come to: a file's is where it lies, and what is not raw may name others.
func values(all []*variable, dir string, others map[string]string) map[string]string {
	out, env := map[string]string{}, map[string]string{}
	for k, v := range others {
		env[k] = v
	}
	for _, v := range all {
		out[v.Key] = v.Value
		if v.Type == "file" {
			out[v.Key] = filepath.Join(dir, v.Key)
		}
		env[v.Key] = out[v.Key]
	}
	for _, v := range all {
		if !v.Raw && v.Type != "file" {
			out[v.Key] = expand(v.Value, env)
		}
	}
	return out
}

// writeFiles puts the variables of type file where their values say.
func writeFiles(all []*variable, dir string) error {
	for _, v := range all {
		if v.Type != "file" {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("writing variable %q: %w", v.Key, err)
		}
		if err := os.WriteFile(filepath.Join(dir, v.Key), []byte(v.Value), 0o600); err != nil {
			return fmt.Errorf("writing variable %q: %w", v.Key, err)
		}
	}
	return nil
}

// masks are the values that may not stand in a log.
func masks(all []*variable) []string {
	var out []string
	for _, v := range all {
		if v.Masked && !slices.Contains(out, v.Value) {
			out = append(out, v.Value)
		}
	}
	return out
}
