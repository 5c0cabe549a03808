package awsfront

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// trail is a CloudTrail trail, in CloudTrail's own shape, with the state that
// the API shows elsewhere. moto refuses a bucket of another account, so the
// front keeps trails itself. No log is ever delivered, and none is claimed.
type trail struct {
	Name                       string
	TrailARN                   string
	S3BucketName               string
	S3KeyPrefix                string `json:",omitempty"`
	KmsKeyId                   string `json:",omitempty"`
	HomeRegion                 string
	IsMultiRegionTrail         bool
	IsOrganizationTrail        bool
	IncludeGlobalServiceEvents bool
	LogFileValidationEnabled   bool
	HasCustomEventSelectors    bool
	HasInsightSelectors        bool
	State                      *trailState `json:",omitempty"`
}

type trailState struct {
	Logging          bool
	Started, Stopped time.Time
	Basic, Advanced  []json.RawMessage
	Tags             []map[string]string
}

func (t trail) shown() trail {
	t.State = nil
	return t
}

// trailInput are the parameters of CreateTrail and UpdateTrail; what is absent
// stays as it is.
type trailInput struct {
	Name, S3BucketName, S3KeyPrefix, KmsKeyId           *string
	SnsTopicName, CloudWatchLogsLogGroupArn             *string
	IsMultiRegionTrail, IsOrganizationTrail             *bool
	IncludeGlobalServiceEvents, EnableLogFileValidation *bool
	TagsList                                            []map[string]string
}

func (in trailInput) apply(t *trail) {
	set(&t.S3BucketName, in.S3BucketName)
	set(&t.S3KeyPrefix, in.S3KeyPrefix)
	set(&t.KmsKeyId, in.KmsKeyId)
	set(&t.IsMultiRegionTrail, in.IsMultiRegionTrail)
	set(&t.IsOrganizationTrail, in.IsOrganizationTrail)
	set(&t.IncludeGlobalServiceEvents, in.IncludeGlobalServiceEvents)
	set(&t.LogFileValidationEnabled, in.EnableLogFileValidation)
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func trailError(code, format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, code, format, args...)
}

// serveTrails answers every call on trails; it reports false for a call that
// is moto's.
func (f *Front) serveTrails(c *call) bool {
	handlers := map[string]func(*call) (any, *apiError){
		"CreateTrail": f.createTrail, "UpdateTrail": f.updateTrail, "DeleteTrail": f.deleteTrail, "GetTrail": f.getTrail,
		"DescribeTrails": f.describeTrails, "ListTrails": f.listTrails, "GetTrailStatus": f.trailStatus,
		"StartLogging": f.startLogging, "StopLogging": f.stopLogging,
		"GetEventSelectors": f.getSelectors, "PutEventSelectors": f.putSelectors,
		"AddTags": f.addTags, "RemoveTags": f.removeTags, "ListTags": f.listTags,
	}
	handler, ok := handlers[c.action]
	if !ok {
		return false
	}
	answer, refused := handler(c)
	if refused != nil {
		c.fail(refused)
		return true
	}
	writeJSON(c.w, http.StatusOK, answer)
	return true
}

func (f *Front) createTrail(c *call) (any, *apiError) {
	var in trailInput
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	t := trail{HomeRegion: c.region, IncludeGlobalServiceEvents: true, State: &trailState{Tags: in.TagsList}}
	set(&t.Name, in.Name)
	in.apply(&t)
	if !regexp.MustCompile(`^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`).MatchString(t.Name) || len(t.Name) < 3 || len(t.Name) > 128 {
		return nil, trailError("InvalidTrailNameException", "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, periods (.), hyphens (-), and underscores (_), none adjacent, 3 to 128 of them: %q", t.Name)
	}
	t.TrailARN = "arn:aws:cloudtrail:" + c.region + ":" + c.caller.Account + ":trail/" + t.Name
	if refused := f.checkTrail(c, in, &t); refused != nil {
		return nil, refused
	}
	return created(t), f.store.change(func(d *data) *apiError {
		if d.Trails[t.TrailARN] != nil {
			return trailError("TrailAlreadyExistsException", "Trail %s already exists for customer: %s", t.Name, c.caller.Account)
		}
		d.Trails[t.TrailARN] = &t
		return nil
	})
}

// created is the answer of CreateTrail and UpdateTrail, which do not tell the
// home region.
func created(t trail) map[string]any {
	out := map[string]any{
		"Name": t.Name, "TrailARN": t.TrailARN, "S3BucketName": t.S3BucketName,
		"IsMultiRegionTrail": t.IsMultiRegionTrail, "IsOrganizationTrail": t.IsOrganizationTrail,
		"IncludeGlobalServiceEvents": t.IncludeGlobalServiceEvents, "LogFileValidationEnabled": t.LogFileValidationEnabled,
	}
	if t.S3KeyPrefix != "" {
		out["S3KeyPrefix"] = t.S3KeyPrefix
	}
	if t.KmsKeyId != "" {
		out["KmsKeyId"] = t.KmsKeyId
	}
	return out
}

// trailOf finds a trail by name or ARN; the store must be held.
func (d *data) trailOf(c *call, name string) (*trail, *apiError) {
	arn := name
	if !strings.HasPrefix(name, "arn:") {
		arn = "arn:aws:cloudtrail:" + c.region + ":" + c.caller.Account + ":trail/" + name
	}
	t := d.Trails[arn]
	if t == nil || strings.Split(arn, ":")[4] != c.caller.Account {
		return nil, trailError("TrailNotFoundException", "Unknown trail: %s for the user: %s", name, c.caller.Account)
	}
	return t, nil
}

// onTrail runs f with the trail that the call names.
func (f *Front) onTrail(c *call, change bool, do func(*trail) (any, *apiError)) (answer any, refused *apiError) {
	var in struct{ Name, TrailName, ResourceId string }
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	run := func(d *data) *apiError {
		t, refused := d.trailOf(c, in.Name+in.TrailName+in.ResourceId)
		if refused != nil {
			return refused
		}
		if change && t.HomeRegion != c.region {
			return trailError("InvalidHomeRegionException", "The trail %s's home region is %s", t.Name, t.HomeRegion)
		}
		answer, refused = do(t)
		return refused
	}
	if change {
		refused = f.store.change(run)
	} else {
		f.store.read(func(d *data) { refused = run(d) })
	}
	return answer, refused
}

func (f *Front) updateTrail(c *call) (any, *apiError) {
	var in trailInput
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	var next trail
	if _, refused := f.onTrail(c, false, func(t *trail) (any, *apiError) { next = *t; return nil, nil }); refused != nil {
		return nil, refused
	}
	in.apply(&next)
	if refused := f.checkTrail(c, in, &next); refused != nil {
		return nil, refused
	}
	return f.onTrail(c, true, func(t *trail) (any, *apiError) {
		next.State, next.HasCustomEventSelectors = t.State, t.HasCustomEventSelectors
		*t = next
		return created(next), nil
	})
}

func (f *Front) deleteTrail(c *call) (any, *apiError) {
	var arn string
	if _, refused := f.onTrail(c, true, func(t *trail) (any, *apiError) { arn = t.TrailARN; return nil, nil }); refused != nil {
		return nil, refused
	}
	return map[string]any{}, f.store.change(func(d *data) *apiError { delete(d.Trails, arn); return nil })
}

func (f *Front) getTrail(c *call) (any, *apiError) {
	return f.onTrail(c, false, func(t *trail) (any, *apiError) { return map[string]any{"Trail": t.shown()}, nil })
}

// trailsOf returns the trails of the caller's account that its region shows.
func (f *Front) trailsOf(c *call, shadows bool) []trail {
	out := []trail{}
	f.store.read(func(d *data) {
		for arn, t := range d.Trails {
			if strings.Split(arn, ":")[4] == c.caller.Account && (t.HomeRegion == c.region || shadows && t.IsMultiRegionTrail) {
				out = append(out, t.shown())
			}
		}
	})
	slices.SortFunc(out, func(a, b trail) int { return strings.Compare(a.TrailARN, b.TrailARN) })
	return out
}

func (f *Front) describeTrails(c *call) (any, *apiError) {
	in := struct {
		TrailNameList       []string `json:"trailNameList"`
		IncludeShadowTrails *bool    `json:"includeShadowTrails"`
	}{}
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	trails := f.trailsOf(c, in.IncludeShadowTrails == nil || *in.IncludeShadowTrails)
	if len(in.TrailNameList) > 0 {
		trails = slices.DeleteFunc(trails, func(t trail) bool {
			return !slices.Contains(in.TrailNameList, t.Name) && !slices.Contains(in.TrailNameList, t.TrailARN)
		})
	}
	return map[string]any{"trailList": trails}, nil
}

func (f *Front) listTrails(c *call) (any, *apiError) {
	out := []map[string]string{}
	for _, t := range f.trailsOf(c, true) {
		out = append(out, map[string]string{"Name": t.Name, "TrailARN": t.TrailARN, "HomeRegion": t.HomeRegion})
	}
	return map[string]any{"Trails": out}, nil
}

func (f *Front) trailStatus(c *call) (any, *apiError) {
	return f.onTrail(c, false, func(t *trail) (any, *apiError) {
		out := map[string]any{"IsLogging": t.State.Logging}
		if !t.State.Started.IsZero() {
			out["StartLoggingTime"], out["TimeLoggingStarted"] = epoch(t.State.Started), t.State.Started.UTC().Format(time.RFC3339)
		}
		if !t.State.Stopped.IsZero() {
			out["StopLoggingTime"], out["TimeLoggingStopped"] = epoch(t.State.Stopped), t.State.Stopped.UTC().Format(time.RFC3339)
		}
		return out, nil
	})
}

func (f *Front) startLogging(c *call) (any, *apiError) {
	return f.onTrail(c, true, func(t *trail) (any, *apiError) {
		t.State.Logging, t.State.Started = true, f.now()
		return map[string]any{}, nil
	})
}

func (f *Front) stopLogging(c *call) (any, *apiError) {
	return f.onTrail(c, true, func(t *trail) (any, *apiError) {
		t.State.Logging, t.State.Stopped = false, f.now()
		return map[string]any{}, nil
	})
}

func selectors(t *trail) map[string]any {
	out := map[string]any{"TrailARN": t.TrailARN}
	switch {
	case len(t.State.Advanced) > 0:
		out["AdvancedEventSelectors"] = slices.Clone(t.State.Advanced)
	case len(t.State.Basic) > 0:
		out["EventSelectors"] = slices.Clone(t.State.Basic)
	default: // what CloudTrail gives a new trail
		out["EventSelectors"] = []any{map[string]any{"ReadWriteType": "All", "IncludeManagementEvents": true, "DataResources": []any{}, "ExcludeManagementEventSources": []any{}}}
	}
	return out
}

func (f *Front) getSelectors(c *call) (any, *apiError) {
	return f.onTrail(c, false, func(t *trail) (any, *apiError) { return selectors(t), nil })
}

func (f *Front) putSelectors(c *call) (any, *apiError) {
	var in struct{ EventSelectors, AdvancedEventSelectors []json.RawMessage }
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	if (len(in.EventSelectors) > 0) == (len(in.AdvancedEventSelectors) > 0) {
		return nil, trailError("InvalidEventSelectorsException", "Either event selectors or advanced event selectors must be given, not both.")
	}
	return f.onTrail(c, true, func(t *trail) (any, *apiError) {
		t.State.Basic, t.State.Advanced, t.HasCustomEventSelectors = in.EventSelectors, in.AdvancedEventSelectors, true
		return selectors(t), nil
	})
}

func (f *Front) addTags(c *call) (any, *apiError) {
	return f.retag(c, true)
}

func (f *Front) removeTags(c *call) (any, *apiError) {
	return f.retag(c, false)
}

func (f *Front) retag(c *call, add bool) (any, *apiError) {
	var in struct{ TagsList []map[string]string }
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	return f.onTrail(c, true, func(t *trail) (any, *apiError) {
		for _, tag := range in.TagsList {
			t.State.Tags = slices.DeleteFunc(t.State.Tags, func(old map[string]string) bool { return old["Key"] == tag["Key"] })
			if add {
				t.State.Tags = append(t.State.Tags, tag)
			}
		}
		return map[string]any{}, nil
	})
}

func (f *Front) listTags(c *call) (any, *apiError) {
	var in struct{ ResourceIdList []string }
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	out := []map[string]any{}
	var refused *apiError
	f.store.read(func(d *data) {
		for _, arn := range in.ResourceIdList {
			t, bad := d.trailOf(c, arn)
			if bad != nil {
				refused = bad
				return
			}
			out = append(out, map[string]any{"ResourceId": arn, "TagsList": slices.Clone(t.State.Tags)})
		}
	})
	return map[string]any{"ResourceTagList": out}, refused
}
