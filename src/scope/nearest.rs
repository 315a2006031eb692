//! The branch that a work tree has begun from, where no CI names one: by what `git for-each-ref` lists of the branches of a
//! remote (<https://git-scm.com/docs/git-for-each-ref>).

/// Format of a list that tells the commits which a branch has and the work tree has not, and the reverse; of git 2.41.
pub const COUNTED: &str = "--format=%(refname) %(ahead-behind:HEAD)";
/// Format of a list of branches that are wholly in the work tree's history, the youngest first; for an older git.
pub const MERGED: &str = "--format=%(refname)";

/// Returns the branch that has most of the work tree's commits: the fewest are not in it, and of several such it has the
/// fewest of its own. `None` where the default branch has as many, which is read anyway.
///
/// `list` is what git wrote in one of the two formats; of the second one the first branch is the nearest. `known`
/// are branches that are read already.
pub fn nearest(list: &str, default: Option<&str>, known: &[&str]) -> Option<String> {
    let branches = list.lines().enumerate().filter_map(read);
    let branches: Vec<Branch<'_>> = branches.collect();
    let of_default = default.and_then(|name| branches.iter().find(|branch| branch.name == name));
    let nearest = branches
        .iter()
        .filter(|branch| Some(branch.name) != default && !known.contains(&branch.name))
        .min_by_key(|branch| (branch.lacks, branch.own))?;
    let is_nearer = of_default.is_none_or(|default| nearest.lacks < default.lacks);
    is_nearer.then(|| nearest.name.to_owned())
}

/// A branch of the remote.
struct Branch<'a> {
    name: &'a str,
    /// Commits of the work tree that it has not.
    lacks: u64,
    /// Commits that only it has.
    own: u64,
}

fn read((at, line): (usize, &str)) -> Option<Branch<'_>> {
    let mut words = line.split(' ');
    let reference = words.next()?.strip_prefix("refs/remotes/")?;
    let (_, name) = reference.split_once('/')?;
    let mut number = || words.next().and_then(|word| word.parse().ok());
    let (own, lacks) = match (number(), number()) {
        (Some(own), Some(lacks)) => (own, lacks),
        _ => (0, u64::try_from(at).ok()?),
    };
    // It stands for the default branch.
    (name != "HEAD").then_some(Branch { name, lacks, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_with_the_most_in_common_is_the_nearest() {
        let list = "refs/remotes/origin/HEAD 40 12\n\
            refs/remotes/origin/main 40 12\n\
            refs/remotes/origin/release/2 7 2\n\
            refs/remotes/origin/on-release 9 2\n\
            refs/remotes/origin/mine 0 0\n";
        let of = |known: &[&str]| nearest(list, Some("main"), known);
        assert_eq!(of(&[]).as_deref(), Some("mine"));
        assert_eq!(of(&["mine"]).as_deref(), Some("release/2"));
        let all = ["mine", "release/2", "on-release"];
        assert_eq!(of(&all), None, "only the default branch is left");
    }

    #[test]
    fn what_begins_at_the_default_branch_has_no_other() {
        let list = "refs/remotes/origin/main 3 2\nrefs/remotes/origin/other 5 2\n";
        assert_eq!(nearest(list, Some("main"), &[]), None);
        assert_eq!(nearest(list, None, &[]).as_deref(), Some("main"));
    }

    #[test]
    fn of_merged_branches_the_first_counts() {
        let list = "refs/remotes/origin/mine\nrefs/remotes/origin/a\nrefs/remotes/origin/b\n";
        assert_eq!(nearest(list, Some("main"), &["mine"]).as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_list_says_nothing() {
        for list in [
            "",
            "\n",
            "fatal: x",
            "refs/heads/a 0 0",
            "refs/remotes/a 0 0",
        ] {
            assert_eq!(nearest(list, None, &[]), None, "{list}");
        }
    }
}
