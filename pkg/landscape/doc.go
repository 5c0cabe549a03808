// Package landscape is the model of landscape/, the files a platform team
// writes, and of its compiled snapshot, which every program reads.
package landscape
