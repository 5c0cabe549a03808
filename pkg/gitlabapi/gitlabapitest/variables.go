package gitlabapitest

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func slug(s string) string {
	s = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s), "-"), "-")
	return strings.Trim(s[:min(len(s), 63)], "-")
}

// unless leaves out the variables that a pipeline was given itself: those win.
func unless(set []*variable, given map[string]string) []*variable {
	return slices.DeleteFunc(slices.Clone(set), func(v *variable) bool {
		_, ok := given[v.Key]
		return ok
	})
}

// pipelineVariables are the predefined variables that every job of a pipeline has and those of the instance, none of
// them secret, but for those that a setting of the project takes the place of.
func (s *Server) pipelineVariables(p *project, pl *pipeline, u user, made commit, set []*variable) map[string]string {
	external, endpoint := s.cfg.ExternalURL, s.cfg.Endpoint
	host := external[strings.Index(external, "://")+3:]
	port := "443"
	if parsed, err := url.Parse(external); err == nil && parsed.Port() != "" {
		port = parsed.Port()
	}
	namespace, name, _ := cutLast(p.Path, "/")
	_, description, _ := strings.Cut(made.Message, "\n\n")
	v := map[string]string{
		"CI": "true", "GITLAB_CI": "true",
		"CI_SERVER": "yes", "CI_SERVER_URL": external, "CI_SERVER_FQDN": host, "CI_SERVER_HOST": strings.Split(host, ":")[0], "CI_SERVER_PORT": port,
		"CI_SERVER_PROTOCOL": external[:strings.Index(external, "://")], "CI_SERVER_NAME": "GitLab", "CI_SERVER_VERSION": version,
		"CI_API_V4_URL": endpoint + "/api/v4", "SLIPWAY_GITLAB_ENDPOINT": endpoint,
		"CI_PROJECT_ID": id(p.ID), "CI_PROJECT_PATH": p.Path, "CI_PROJECT_NAME": name, "CI_PROJECT_TITLE": name, "CI_PROJECT_NAMESPACE": namespace,
		"CI_PROJECT_ROOT_NAMESPACE": strings.Split(namespace, "/")[0], "CI_PROJECT_PATH_SLUG": slug(p.Path),
		"CI_PROJECT_URL": external + "/" + p.Path, "CI_PROJECT_VISIBILITY": map[bool]string{true: "public", false: "private"}[p.Public],
		"CI_REPOSITORY_URL": endpoint + "/" + p.Path + ".git",
		"CI_DEFAULT_BRANCH": p.DefaultBranch, "CI_CONFIG_PATH": ".gitlab-ci.yml",
		"CI_PIPELINE_ID": id(pl.ID), "CI_PIPELINE_IID": id(pl.IID), "CI_PIPELINE_SOURCE": pl.Source,
		"CI_PIPELINE_URL": external + "/" + p.Path + "/-/pipelines/" + id(pl.ID), "CI_PIPELINE_CREATED_AT": pl.CreatedAt.Format("2006-01-02T15:04:05Z"),
		"CI_COMMIT_SHA": pl.SHA, "CI_COMMIT_SHORT_SHA": pl.SHA[:8], "CI_COMMIT_BEFORE_SHA": pl.BeforeSHA,
		"CI_COMMIT_REF_NAME": pl.Ref, "CI_COMMIT_REF_SLUG": slug(pl.Ref), "CI_COMMIT_REF_PROTECTED": strconv.FormatBool(p.runsProtected(pl)),
		"CI_COMMIT_TITLE": made.Title, "CI_COMMIT_MESSAGE": strings.TrimRight(made.Message, "\n"), "CI_COMMIT_DESCRIPTION": strings.TrimSpace(description),
		"CI_COMMIT_AUTHOR": made.AuthorName + " <" + made.AuthorEmail + ">", "CI_COMMIT_TIMESTAMP": made.CommittedDate,
		"GITLAB_USER_ID": id(u.ID), "GITLAB_USER_LOGIN": u.Login, "GITLAB_USER_NAME": u.Name, "GITLAB_USER_EMAIL": u.Email,
		"CI_RUNNER_ID": "1", "CI_RUNNER_DESCRIPTION": "gitlab-ci-local",
	}
	s.mu.Lock()
	frozen := s.frozen(p.ID)
	s.mu.Unlock()
	if frozen {
		v["CI_DEPLOY_FREEZE"] = "true"
	}
	switch {
	case pl.Tag:
		v["CI_COMMIT_TAG"] = pl.Ref
	case pl.MergeRequest != 0:
		s.mergeRequestVariables(pl, v)
	default:
		v["CI_COMMIT_BRANCH"] = pl.Ref
	}
	if s.cfg.Registry != "" {
		v["CI_REGISTRY"] = s.cfg.Registry
		v["CI_REGISTRY_IMAGE"] = s.cfg.Registry + "/" + strings.ToLower(p.Path)
	}
	for k, value := range s.cfg.Runner.Env {
		v[k] = value
	}
	for _, one := range set {
		delete(v, one.Key)
	}
	for k, value := range pl.Variables {
		v[k] = value
	}
	return v
}

// jobVariables adds what differs from job to job. The second result is secret: it reaches the job in a file that
// only this user can read, and never a command line.
func (s *Server) jobVariables(p *project, pl *pipeline, j *job, u user, dir, token string) (secret map[string]string, open map[string]string, err error) {
	open = map[string]string{
		"CI_JOB_ID": id(j.ID), "CI_JOB_NAME": j.Definition.Name, "CI_JOB_NAME_SLUG": slug(j.Definition.Name), "CI_JOB_STAGE": j.Definition.Stage,
		"CI_JOB_URL": s.cfg.ExternalURL + "/" + p.Path + "/-/jobs/" + id(j.ID), "CI_JOB_STARTED_AT": j.StartedAt.Format("2006-01-02T15:04:05Z"),
		"CI_PROJECT_DIR": dir, "CI_BUILDS_DIR": s.path("builds"), "CI_REGISTRY_USER": "gitlab-ci-token",
		"GITLAB_USER_ID": id(u.ID), "GITLAB_USER_LOGIN": u.Login, "GITLAB_USER_NAME": u.Name, "GITLAB_USER_EMAIL": u.Email,
	}
	if j.Definition.When == "manual" {
		open["CI_JOB_MANUAL"] = "true"
	}
	if e := j.Definition.Environment; e != nil {
		open["CI_ENVIRONMENT_NAME"], open["CI_ENVIRONMENT_SLUG"], open["CI_ENVIRONMENT_URL"] = e.Name, slug(e.Name), e.URL
		open["CI_ENVIRONMENT_ACTION"], open["CI_ENVIRONMENT_TIER"] = e.Action, e.tier()
	}
	secret = map[string]string{"CI_JOB_TOKEN": token, "CI_REGISTRY_PASSWORD": token}
	for name, audience := range j.Definition.IDTokens {
		if secret[name], err = s.idToken(p, pl, j, u, audience, s.now()); err != nil {
			return nil, nil, fmt.Errorf("preparing job %d: %w", j.ID, err)
		}
	}
	return secret, open, nil
}
