package gitlabapitest

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
)

// GitLab shows one pipeline in several widths: as part of something else, in a list, by itself.

// basicPipelineJSON is a pipeline as part of a job, of a commit, of a merge request.
func (s *Server) basicPipelineJSON(pl *pipeline) map[string]any {
	return map[string]any{"id": pl.ID, "iid": pl.IID, "project_id": pl.Project, "sha": pl.SHA, "ref": pl.gitRef(), "status": pl.Status, "source": pl.Source,
		"created_at": pl.CreatedAt, "updated_at": pl.UpdatedAt, "web_url": s.cfg.ExternalURL + s.pipelinePath(pl)}
}

func (s *Server) pipelinePath(pl *pipeline) string {
	return "/" + s.st.Projects[pl.Project].Path + "/-/pipelines/" + id(pl.ID)
}

// listedPipelineJSON is a pipeline in its project's list.
func (s *Server) listedPipelineJSON(pl *pipeline) map[string]any {
	return withName(pl, s.basicPipelineJSON(pl))
}

// namedPipelineJSON is a pipeline that was asked for by itself.
func (s *Server) namedPipelineJSON(pl *pipeline) map[string]any {
	return withName(pl, s.pipelineJSON(pl))
}

func withName(pl *pipeline, body map[string]any) map[string]any {
	body["name"] = nil
	if pl.Name != "" {
		body["name"] = pl.Name
	}
	return body
}

// pipelineJSON answers calls that make or change a pipeline. These do not tell its name.
func (s *Server) pipelineJSON(pl *pipeline) map[string]any {
	body := s.basicPipelineJSON(pl)
	for key, value := range map[string]any{
		"before_sha": pl.BeforeSHA, "tag": pl.Tag, "yaml_errors": nil, "user": s.userJSON(s.user(pl.User)), "started_at": pl.StartedAt, "finished_at": pl.FinishedAt,
		"committed_at": nil, "duration": nil, "queued_duration": nil, "coverage": nil, "detailed_status": s.detailedPipelineStatus(pl),
	} {
		body[key] = value
	}
	if pl.YAMLErrors != "" {
		body["yaml_errors"] = pl.YAMLErrors
	}
	if pl.StartedAt != nil {
		body["queued_duration"] = int64(pl.StartedAt.Sub(pl.CreatedAt).Seconds())
		if pl.FinishedAt != nil {
			body["duration"] = int64(pl.FinishedAt.Sub(*pl.StartedAt).Seconds())
		}
	}
	return body
}

// detailedPipelineStatus is what GitLab's pages show of a status: they have words of their own for some.
func (s *Server) detailedPipelineStatus(pl *pipeline) map[string]any {
	icon, text := pl.Status, pl.Status
	label, group := text, strings.ReplaceAll(pl.Status, "_", "-")
	switch pl.Status {
	case "success":
		text, label = "passed", "passed"
		for _, j := range s.st.pipelineJobs(pl.ID) {
			if j.Tolerated {
				icon, text, label, group = "warning", "warning", "passed with warnings", "success-with-warnings"
			}
		}
	case "manual":
		text, label = "blocked", "waiting for manual action"
	case "waiting_for_resource":
		icon, text, label = "pending", "waiting", "waiting for resource"
	}
	return map[string]any{"icon": "status_" + icon, "text": text, "label": label, "group": group, "tooltip": label, "has_details": false,
		"details_path": s.pipelinePath(pl), "illustration": nil, "favicon": "/assets/ci_favicons/favicon_status_" + icon + ".png"}
}

// profileJSON is a person as a job shows him, with what he says of himself: here nobody says anything.
func (s *Server) profileJSON(u user) map[string]any {
	body := s.userJSON(u)
	body["created_at"], body["bio"], body["location"], body["organization"] = s.st.CreatedAt, nil, nil, nil
	for _, key := range []string{"public_email", "skype", "linkedin", "twitter", "website_url"} {
		body[key] = ""
	}
	return body
}

func (s *Server) jobJSON(j *job) map[string]any {
	p, pl := s.st.Projects[j.Project], s.st.Pipelines[j.Pipeline]
	body := map[string]any{
		"id": j.ID, "name": j.Definition.Name, "stage": j.Definition.Stage, "status": j.Status, "ref": pl.Ref, "tag": pl.Tag, "allow_failure": j.Definition.AllowFailure || j.Tolerated,
		"created_at": j.CreatedAt, "started_at": j.StartedAt, "finished_at": j.FinishedAt, "erased_at": nil, "duration": nil, "queued_duration": nil, "coverage": nil,
		"user": s.profileJSON(s.user(j.User)), "web_url": s.cfg.ExternalURL + "/" + p.Path + "/-/jobs/" + id(j.ID), "archived": false, "source": pl.Source,
		"commit": nil, "pipeline": s.basicPipelineJSON(pl), "project": map[string]any{"ci_job_token_scope_enabled": false},
		"artifacts": s.artifactsJSON(j), "artifacts_expire_at": nil, "tag_list": append([]string{}, j.Definition.Tags...), "runner": nil, "runner_manager": nil,
	}
	if pl.Commit.ID != "" {
		body["commit"] = pl.Commit
	}
	if j.FailureReason != "" {
		body["failure_reason"] = j.FailureReason
	}
	if j.Archive > 0 {
		body["artifacts_file"] = map[string]any{"filename": "artifacts.zip", "size": j.Archive}
		if after := period(j.Definition.ExpireIn); after > 0 && j.FinishedAt != nil {
			body["artifacts_expire_at"] = j.FinishedAt.Add(after)
		}
	}
	if j.StartedAt != nil {
		until := s.now()
		if j.FinishedAt != nil {
			until = *j.FinishedAt
		}
		body["duration"] = until.Sub(*j.StartedAt).Seconds()
		if j.QueuedAt != nil {
			body["queued_duration"] = j.StartedAt.Sub(*j.QueuedAt).Seconds()
		}
	}
	return body
}

// artifactsJSON are the files that are kept of a job: its artifacts, and its log once it is whole.
func (s *Server) artifactsJSON(j *job) []map[string]any {
	out := []map[string]any{}
	if j.Archive > 0 {
		out = append(out, map[string]any{"file_type": "archive", "size": j.Archive, "filename": "artifacts.zip", "file_format": "zip"})
	}
	if info, err := os.Stat(s.jobDir(j, "trace")); err == nil && j.FinishedAt != nil {
		out = append(out, map[string]any{"file_type": "trace", "size": info.Size(), "filename": "job.log", "file_format": nil})
	}
	return out
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// archiveSize is how big a job's artifacts are as the one file that GitLab keeps; 0 where there are none.
func (s *Server) archiveSize(j *job) int64 {
	var size counter
	z := zip.NewWriter(&size)
	files := 0
	err := filepath.WalkDir(s.artifactsDir(j), func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == reportsDir:
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(s.artifactsDir(j), path)
		w, err := z.Create(filepath.ToSlash(rel))
		if err == nil {
			files++
			_, err = w.Write(data)
		}
		return err
	})
	if err != nil || files == 0 || z.Close() != nil {
		return 0
	}
	return int64(size)
}
