package awsfront

// rights are all the policies that bear on one request, as AWS gathers them
// before it decides.
type rights struct {
	identity []*document   // of the user or the role, inline and attached
	boundary *document     // permissions boundary; nil: none
	session  []*document   // session policies; empty: none
	scps     [][]*document // service control policies of each level from the root to the account; nil: none apply
}

// guard is the policy of the resource that is asked for.
type guard struct {
	policy *document // nil: the resource has none
	// foreign: the resource belongs to another account than the caller, so
	// that both accounts must agree.
	foreign bool
	// sole: the resource's policy is the source of every right on it, and the
	// account's own policies count only where it lets them: a key's policy, and
	// a role's trust policy.
	sole bool
	// trust: statements of the policy name no resource.
	trust bool
}

// refusalReason is why a request is refused, in the words of AWS's messages;
// "" where it is not.
type refusalReason string

func explicit(kind string) refusalReason {
	return refusalReason("with an explicit deny in a " + kind)
}

func missing(kind, action string) refusalReason {
	return refusalReason("because no " + kind + " allows the " + action + " action")
}

// evaluate decides on one request by IAM's documented logic: an explicit
// denial anywhere ends it; every level of service control policies must allow;
// then the resource's policy may allow alone within one account, must allow as
// well across two, and what it does not settle the identity's policies,
// within boundary and session policy, must allow.
func (r *rights) evaluate(q query, g guard) refusalReason {
	own := q
	own.identity = true
	if reason := r.denies(q, own, g); reason != "" {
		return reason
	}
	for _, level := range r.scps {
		if together(level, own) != allowed {
			return missing("service control policy", q.action)
		}
	}
	verdict, near := undecided, byAccount
	if g.policy != nil {
		verdict, near = g.policy.weigh(g.ask(q))
	}
	if verdict != allowed && (g.sole || g.foreign) {
		return missing("resource-based policy", q.action)
	}
	if verdict == allowed && !g.foreign {
		switch near {
		case byName:
			return "" // the one thing that boundary and session policy do not limit
		case byRole, byAnyone:
			return r.limits(own)
		case byAccount: // the account decides
		}
	}
	if together(r.identity, own) != allowed {
		return missing("identity-based policy", q.action)
	}
	return r.limits(own)
}

func (g guard) ask(q query) query {
	if g.trust {
		q.resource = ""
	}
	return q
}

// denies looks for an explicit denial in every policy.
func (r *rights) denies(q, own query, g guard) refusalReason {
	for _, level := range r.scps {
		if together(level, own) == denied {
			return explicit("service control policy")
		}
	}
	if g.policy != nil && g.policy.decide(g.ask(q)) == denied {
		return explicit("resource-based policy")
	}
	switch {
	case together(r.identity, own) == denied:
		return "with an explicit deny in an identity-based policy"
	case r.boundary != nil && r.boundary.decide(own) == denied:
		return explicit("permissions boundary")
	case together(r.session, own) == denied:
		return explicit("session policy")
	}
	return ""
}

// limits applies the policies that give nothing and only limit.
func (r *rights) limits(own query) refusalReason {
	if r.boundary != nil && r.boundary.decide(own) != allowed {
		return missing("permissions boundary", own.action)
	}
	if len(r.session) > 0 && together(r.session, own) != allowed {
		return missing("session policy", own.action)
	}
	return ""
}

// together evaluates policies that stand beside one another.
func together(policies []*document, q query) decision {
	result := undecided
	for _, p := range policies {
		switch p.decide(q) {
		case denied:
			return denied
		case allowed:
			result = allowed
		case undecided:
		}
	}
	return result
}
