package gitlabapitest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(tmp, sum), c.r.Body)
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
	f := pkgFile{ID: c.s.st.next("package_file"), Name: file, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil)), CreatedAt: c.s.now()}
	if err := os.Rename(tmp.Name(), c.s.path("packages", id(f.ID))); err != nil {
		return failInternal(err)
	}
	c.s.st.Packages[made.ID] = made
	made.Files = append(made.Files, f) // the same name again is a further file: the newest is served
	c.s.save()
	if c.r.URL.Query().Get("select") == "package_file" {
		reply(c.w, http.StatusCreated, fileJSON(made, f))
		return nil
	}
	reply(c.w, http.StatusCreated, map[string]string{"message": "201 Created"})
	return nil
}

func fileJSON(p *pkg, f pkgFile) map[string]any {
	return map[string]any{"id": f.ID, "package_id": p.ID, "file_name": f.Name, "size": f.Size, "file_sha256": f.SHA256,
		"file": map[string]any{"url": nil}, "created_at": f.CreatedAt, "updated_at": f.CreatedAt}
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
	return list(c, all, func(p *pkg) map[string]any {
		return map[string]any{"id": p.ID, "name": p.Name, "version": p.Version, "package_type": "generic", "status": "default", "created_at": p.CreatedAt,
			"_links": map[string]any{"web_path": "/" + c.project.Path + "/-/packages/" + id(p.ID)}, "tags": []any{}}
	})
}

func (c *call) listPackageFiles() *failure {
	p, f := found(c, c.s.st.Packages, "package", "Package", func(p *pkg) int64 { return p.Project })
	if f != nil {
		return f
	}
	return list(c, p.Files, func(one pkgFile) map[string]any { return fileJSON(p, one) })
}
