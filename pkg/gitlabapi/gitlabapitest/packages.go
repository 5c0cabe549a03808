package gitlabapitest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
)

func isPackageName(s string) bool { return regexp.MustCompile(`^[A-Za-z0-9._+~-]+$`).MatchString(s) }

func packageEndpoints() []endpoint {
	const file = "/projects/:id/packages/generic/:name/:version/:file"
	return []endpoint{
		{"GET", "/projects/:id/packages", true, reporter, locked((*call).listPackages)},
		{"GET", "/projects/:id/packages/:package/package_files", true, reporter, locked((*call).listPackageFiles)},
		{"PUT", file, true, developer, (*call).putPackageFile},
		{"GET", file, true, reporter, (*call).getPackageFile},
	}
}

// findPackage returns the package of that name and version; the caller holds the lock.
func (s *Server) findPackage(p *project, name, version string) *pkg {
	for _, one := range s.st.Packages {
		if one.Project == p.ID && one.Name == name && one.Version == version {
			return one
		}
	}
	return nil
}

func (c *call) putPackageFile() *failure {
	name, version, file := c.r.PathValue("name"), c.r.PathValue("version"), c.r.PathValue("file")
	for what, ok := range map[string]bool{"package_name": isPackageName(name), "package_version": isPackageName(version), "file_name": isPackageName(file)} {
		if !ok {
			return failKey(http.StatusBadRequest, "error", what+" is invalid")
		}
	}
	tmp, err := os.CreateTemp(c.s.path("packages"), ".upload")
	if err != nil {
		return failInternal(err)
	}
	defer os.Remove(tmp.Name())
	sums := [3]hash.Hash{sha256.New(), sha1.New(), md5.New()}
	size, err := io.Copy(io.MultiWriter(tmp, sums[0], sums[1], sums[2]), c.r.Body)
	err = errors.Join(err, tmp.Close())
	if err != nil {
		return failInternal(err)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	made := c.s.findPackage(c.project, name, version)
	if made == nil {
		made = &pkg{ID: c.s.st.next("package"), Project: c.project.ID, Name: name, Version: version, CreatedAt: c.s.now()}
	}
	f := pkgFile{ID: c.s.st.next("package_file"), Name: file, Size: size, SHA256: sumOf(sums[0]), SHA1: sumOf(sums[1]), MD5: sumOf(sums[2]), CreatedAt: c.s.now()}
	if j := c.caller.job; j != nil {
		f.Pipeline = j.Pipeline
	}
	if err := os.Rename(tmp.Name(), c.s.path("packages", id(f.ID))); err != nil {
		return failInternal(err)
	}
	c.s.st.Packages[made.ID] = made
	made.Files = append(made.Files, f) // the same name again is a further file: the newest is served
	c.s.save()
	if c.r.URL.Query().Get("select") == "package_file" {
		body := c.s.fileJSON(made, f)
		body["file"], body["updated_at"] = map[string]any{"url": nil}, f.CreatedAt
		reply(c.w, http.StatusCreated, body)
		return nil
	}
	reply(c.w, http.StatusCreated, map[string]string{"message": "201 Created"})
	return nil
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func (s *Server) fileJSON(p *pkg, f pkgFile) map[string]any {
	body := map[string]any{"id": f.ID, "package_id": p.ID, "file_name": f.Name, "size": f.Size, "file_md5": f.MD5, "file_sha1": f.SHA1, "file_sha256": f.SHA256, "created_at": f.CreatedAt}
	if by := s.publishers(f); len(by) > 0 {
		body["pipelines"] = by
	}
	return body
}

// publishers are the pipelines whose jobs have published files, each once; of what a person published, none.
func (s *Server) publishers(files ...pkgFile) []map[string]any {
	var out []map[string]any
	seen := map[int64]bool{}
	for _, f := range files {
		if pl := s.st.Pipelines[f.Pipeline]; pl != nil && !seen[pl.ID] {
			seen[pl.ID] = true
			body := s.basicPipelineJSON(pl)
			body["user"] = s.userJSON(s.user(pl.User))
			out = append(out, body)
		}
	}
	return out
}

func (c *call) packageJSON(p *pkg) map[string]any {
	links := map[string]any{"web_path": "/" + c.project.Path + "/-/packages/" + id(p.ID)}
	if c.person().atLeast(maintainer) {
		links["delete_api_path"] = c.s.cfg.ExternalURL + "/api/v4/projects/" + id(c.project.ID) + "/packages/" + id(p.ID)
	}
	body := map[string]any{"id": p.ID, "name": p.Name, "version": p.Version, "package_type": "generic", "status": "default", "created_at": p.CreatedAt,
		"last_downloaded_at": nil, "_links": links, "tags": []any{}}
	if by := c.s.publishers(p.Files...); len(by) > 0 {
		body["pipeline"], body["pipelines"] = by[0], by
	}
	return body
}

func (c *call) getPackageFile() *failure {
	c.s.mu.Lock()
	made := c.s.findPackage(c.project, c.r.PathValue("name"), c.r.PathValue("version"))
	var found *pkgFile
	if made != nil {
		for i := range made.Files {
			if made.Files[i].Name == c.r.PathValue("file") {
				found = &made.Files[i]
			}
		}
	}
	c.s.mu.Unlock()
	switch {
	case made == nil:
		return notFound("Package")
	case found == nil:
		return notFound("File")
	}
	f, err := os.Open(c.s.path("packages", id(found.ID)))
	if err != nil {
		return failInternal(err)
	}
	defer f.Close()
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.Header().Set("X-Checksum-Sha256", found.SHA256)
	http.ServeContent(c.w, c.r, "", found.CreatedAt, f)
	return nil
}

func (c *call) listPackages() *failure {
	q := c.r.URL.Query()
	all := sorted(c.s.st.Packages, func(p *pkg) bool {
		return p.Project == c.project.ID && is(q.Get("package_name"), p.Name) && is(q.Get("package_version"), p.Version) && is(q.Get("package_type"), "generic")
	})
	if q.Get("sort") == "desc" {
		slices.Reverse(all)
	}
	return list(c, all, c.packageJSON)
}

func (c *call) listPackageFiles() *failure {
	p, f := found(c, c.s.st.Packages, "package", "Package", func(p *pkg) int64 { return p.Project })
	if f != nil {
		return f
	}
	return list(c, p.Files, func(one pkgFile) map[string]any { return c.s.fileJSON(p, one) })
}
