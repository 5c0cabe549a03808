package estate

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// trail is the organisation's audit trail, in the management account; its
// bucket and its key are in the audit account and come before it.
type trail struct {
	c                      *Cloud
	exists, right, logging bool
}

// Account returns management.
func (*trail) Account() string { return landscape.Management }

// Name returns the resource's name.
func (r *trail) Name() string { return "audit trail " + r.source().Audit.Trail }

func (r *trail) source() landscape.Landscape { return r.c.facts.Source.Landscape }

func (r *trail) bucket() string {
	l := r.source()
	return landscape.AuditBucket(l.Name, r.c.facts.Account(l.Audit.Account), l.AWS.Region)
}

func (r *trail) key() string {
	return r.c.facts.Key(r.source().Audit.Account, auditAlias(r.source().Name))
}

// Observe reads the trail and whether it is logging: a trail starts switched off.
func (r *trail) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	cfg, _ := r.c.config(landscape.Management)
	api := cloudtrail.NewFromConfig(cfg)
	out, err := api.GetTrail(ctx, &cloudtrail.GetTrailInput{Name: aws.String(r.source().Audit.Trail)})
	r.exists = err == nil
	if codeIs(err, "TrailNotFoundException") {
		return resource.Absent(), nil
	}
	if err != nil {
		return o, failed("GetTrail", err)
	}
	t := out.Trail
	var wrong []string
	for _, c := range []struct {
		right bool
		what  string
	}{
		{aws.ToString(t.S3BucketName) == r.bucket(), "bucket"},
		{r.key() != "" && aws.ToString(t.KmsKeyId) == r.key(), "key"},
		{aws.ToBool(t.IsOrganizationTrail), "for the organisation"},
		{aws.ToBool(t.IsMultiRegionTrail), "in all regions"},
		{aws.ToBool(t.LogFileValidationEnabled), "validation of log files"},
		{aws.ToBool(t.IncludeGlobalServiceEvents), "events of global services"},
	} {
		o.Differ(!c.right, c.what)
		if !c.right {
			wrong = append(wrong, c.what)
		}
	}
	r.right = len(wrong) == 0
	state, err := api.GetTrailStatus(ctx, &cloudtrail.GetTrailStatusInput{Name: aws.String(r.source().Audit.Trail)})
	if err != nil {
		return o, failed("GetTrailStatus", err)
	}
	r.logging = aws.ToBool(state.IsLogging)
	o.Differ(!r.logging, "start logging")
	return o, nil
}

// Apply makes the trail or mends it, and starts it.
func (r *trail) Apply(ctx context.Context) error {
	if r.key() == "" {
		return errors.New("its key does not exist")
	}
	cfg, _ := r.c.config(landscape.Management)
	api := cloudtrail.NewFromConfig(cfg)
	yes := aws.Bool(true)
	switch {
	case !r.exists:
		err := r.c.settled(ctx, func() error {
			_, err := api.CreateTrail(ctx, &cloudtrail.CreateTrailInput{Name: aws.String(r.source().Audit.Trail), S3BucketName: aws.String(r.bucket()),
				KmsKeyId: aws.String(r.key()), IsOrganizationTrail: yes, IsMultiRegionTrail: yes, EnableLogFileValidation: yes, IncludeGlobalServiceEvents: yes,
				TagsList: []types.Tag{{Key: aws.String(tagLandscape), Value: aws.String(r.source().Name)}}})
			return err
		})
		if err != nil {
			return failed("CreateTrail", err)
		}
		r.logging = false
	case !r.right:
		err := r.c.settled(ctx, func() error {
			_, err := api.UpdateTrail(ctx, &cloudtrail.UpdateTrailInput{Name: aws.String(r.source().Audit.Trail), S3BucketName: aws.String(r.bucket()),
				KmsKeyId: aws.String(r.key()), IsOrganizationTrail: yes, IsMultiRegionTrail: yes, EnableLogFileValidation: yes, IncludeGlobalServiceEvents: yes})
			return err
		})
		if err != nil {
			return failed("UpdateTrail", err)
		}
	}
	if r.logging {
		return nil
	}
	_, err := api.StartLogging(ctx, &cloudtrail.StartLoggingInput{Name: aws.String(r.source().Audit.Trail)})
	return failed("StartLogging", err)
}
