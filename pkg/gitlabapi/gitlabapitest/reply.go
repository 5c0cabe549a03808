package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// failure is an answer that is not the one asked for.
type failure struct {
	code int
	body any
}

func fail(code int, message any) *failure {
	return &failure{code, map[string]any{"message": message}}
}

func failKey(code int, key, message string) *failure {
	return &failure{code, map[string]any{key: message}}
}

func failInternal(err error) *failure {
	return fail(http.StatusInternalServerError, "500 Internal Server Error - "+err.Error())
}

// notFound says what is not there; GitLab names some things and not others.
func notFound(what string) *failure {
	if what == "" {
		return fail(http.StatusNotFound, "404 Not found")
	}
	return fail(http.StatusNotFound, "404 "+what+" Not Found")
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

// page cuts one page out of a list and sets the headers by which a client walks on.
func page[T any](w http.ResponseWriter, r *http.Request, all []T) []T {
	q := r.URL.Query()
	size, number := positive(q.Get("per_page"), 20), positive(q.Get("page"), 1)
	if size > 100 {
		size = 100
	}
	total := len(all)
	pages := (total + size - 1) / size
	if pages == 0 {
		pages = 1
	}
	number = min(number, pages+1) // a page after the last is as empty as any further one
	from, to := min((number-1)*size, total), min(number*size, total)
	h := w.Header()
	h.Set("X-Total", strconv.Itoa(total))
	h.Set("X-Total-Pages", strconv.Itoa(pages))
	h.Set("X-Per-Page", strconv.Itoa(size))
	h.Set("X-Page", strconv.Itoa(number))
	link := func(n int, rel string) string {
		next := url.Values{}
		for k, v := range q {
			if k != "private_token" {
				next[k] = v
			}
		}
		next.Set("page", strconv.Itoa(n))
		next.Set("per_page", strconv.Itoa(size))
		return fmt.Sprintf("<http://%s%s?%s>; rel=%q", r.Host, r.URL.EscapedPath(), next.Encode(), rel)
	}
	links := []string{link(1, "first"), link(pages, "last")}
	h.Set("X-Next-Page", "")
	h.Set("X-Prev-Page", "")
	if number < pages {
		h.Set("X-Next-Page", strconv.Itoa(number+1))
		links = append([]string{link(number+1, "next")}, links...)
	}
	if number > 1 {
		h.Set("X-Prev-Page", strconv.Itoa(number-1))
		links = append([]string{link(number-1, "prev")}, links...)
	}
	h.Set("Link", strings.Join(links, ", "))
	return all[from:to]
}

// keyset cuts a page that begins after a token, and names the next one in the Link header alone, as GitLab does for
// lists that may be long. key tells the token of an entry.
func keyset[T any](w http.ResponseWriter, r *http.Request, all []T, key func(T) string) []T {
	q := r.URL.Query()
	if q.Get("pagination") != "keyset" {
		return page(w, r, all)
	}
	size := min(positive(q.Get("per_page"), 20), 100)
	if token := q.Get("page_token"); token != "" {
		at := slices.IndexFunc(all, func(one T) bool { return key(one) == token })
		all = all[at+1:]
	}
	if len(all) <= size {
		return all
	}
	q.Del("private_token")
	q.Set("page_token", key(all[size-1]))
	w.Header().Set("Link", fmt.Sprintf("<http://%s%s?%s>; rel=\"next\"", r.Host, r.URL.EscapedPath(), q.Encode()))
	return all[:size]
}

func positive(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return n
	}
	return otherwise
}

const bodyLimit = 32 << 20

// params reads the parameters of a request from the query and from a JSON, form or multipart body.
// A form's inputs[name] becomes {"inputs": {"name": …}}, as Rails has it.
func params(r *http.Request) (map[string]any, *failure) {
	out := map[string]any{}
	add := func(values url.Values) {
		for k, v := range values {
			if len(v) == 0 {
				continue
			}
			outer, inner, nested := strings.Cut(strings.TrimSuffix(k, "]"), "[")
			switch {
			case nested && inner == "":
				list, _ := out[outer].([]any)
				for _, one := range v {
					list = append(list, one)
				}
				out[outer] = list
			case nested:
				m, ok := out[outer].(map[string]any)
				if !ok {
					m = map[string]any{}
					out[outer] = m
				}
				m[inner] = v[len(v)-1]
			default:
				out[k] = v[len(v)-1]
			}
		}
	}
	add(r.URL.Query())
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "multipart/form-data":
		if err := r.ParseMultipartForm(bodyLimit); err != nil {
			return nil, failKey(http.StatusBadRequest, "error", err.Error())
		}
		add(url.Values(r.MultipartForm.Value))
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return nil, failKey(http.StatusBadRequest, "error", err.Error())
		}
		add(r.PostForm)
	default:
		body, err := io.ReadAll(io.LimitReader(r.Body, bodyLimit))
		if err != nil {
			return nil, failKey(http.StatusBadRequest, "error", err.Error())
		}
		if len(body) > 0 {
			var m map[string]any
			if err := json.Unmarshal(body, &m); err != nil {
				return nil, failKey(http.StatusBadRequest, "error", "Problems parsing JSON")
			}
			for k, v := range m {
				out[k] = v
			}
		}
	}
	return out, nil
}

func text(m map[string]any, key string) string {
	switch v := m[key].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

func number(m map[string]any, key string) int64 {
	switch v := m[key].(type) {
	case float64:
		return int64(v)
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

func truth(m map[string]any, key string) bool { return text(m, key) == "true" }

func missing(m map[string]any, keys ...string) *failure {
	var problems []string
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			problems = append(problems, k+" is missing")
		}
	}
	if problems == nil {
		return nil
	}
	return failKey(http.StatusBadRequest, "error", strings.Join(problems, ", "))
}
