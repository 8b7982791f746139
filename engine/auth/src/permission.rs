//! What may somebody do? Permissions, and roles as names for some of them.
//!
//! Never allows what it was not told to: the empty set is the default.

use std::fmt;

use serde::{Serialize, Serializer};

/// What somebody may be allowed to do by the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Permission {
    /// See nodes, processes, modules, upstreams and what state they are in.
    ViewStatus,
    /// See counters, latencies and metrics.
    ViewStatistics,
    /// See configurations, the running one and earlier ones.
    ViewConfiguration,
    /// Publish, roll back and reload configurations; read certificates again.
    ChangeConfiguration,
    /// Start and stop modules.
    ControlModules,
    /// Drain processes.
    ControlProcesses,
    /// Add, change and remove endpoints of upstreams.
    ChangeUpstreams,
    /// See, add, change and remove users.
    ManageUsers,
    /// See, add, change and remove clients that are given tokens; revoke tokens.
    ManageClients,
    /// Rotate keys.
    ManageKeys,
    /// See who changed what.
    ViewAudit,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ViewStatus,
        Self::ViewStatistics,
        Self::ViewConfiguration,
        Self::ChangeConfiguration,
        Self::ControlModules,
        Self::ControlProcesses,
        Self::ChangeUpstreams,
        Self::ManageUsers,
        Self::ManageClients,
        Self::ManageKeys,
        Self::ViewAudit,
    ];

    /// Its name in APIs, in scopes of tokens and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ViewStatus => "view_status",
            Self::ViewStatistics => "view_statistics",
            Self::ViewConfiguration => "view_configuration",
            Self::ChangeConfiguration => "change_configuration",
            Self::ControlModules => "control_modules",
            Self::ControlProcesses => "control_processes",
            Self::ChangeUpstreams => "change_upstreams",
            Self::ManageUsers => "manage_users",
            Self::ManageClients => "manage_clients",
            Self::ManageKeys => "manage_keys",
            Self::ViewAudit => "view_audit",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A set of permissions; none by default.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u16);

impl Permissions {
    /// No permission at all.
    pub const NONE: Self = Self(0);
    /// Every permission there is.
    pub const ALL: Self = Self::of(&Permission::ALL);

    /// These.
    #[must_use]
    pub const fn of(permissions: &[Permission]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < permissions.len() {
            bits |= 1 << permissions[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn allow(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// Whether all of `others` are among them: nobody gives what he does not have.
    #[must_use]
    pub const fn cover(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.allow(*permission))
    }

    /// Those that a token's scopes name; scopes that are no permission mean something elsewhere.
    #[must_use]
    pub fn of_scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        scopes.into_iter().filter_map(Permission::parse).collect()
    }

    /// Those of all these roles together.
    #[must_use]
    pub fn of_roles(roles: &[Role]) -> Self {
        roles.iter().fold(Self::NONE, |sum, role| sum.and(role.permissions()))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, |sum, permission| sum.and(Self::of(&[permission])))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A name for the permissions that somebody needs for his work. Who has none may nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Everything.
    Administrator,
    /// Keeps the cluster running: modules, processes, endpoints.
    Operator,
    /// Writes its configuration.
    Editor,
    /// Looks on.
    Viewer,
    /// Looks on, and sees who changed what.
    Auditor,
}

/// What everybody with a role may see.
const SEEN_BY_ALL: Permissions =
    Permissions::of(&[Permission::ViewStatus, Permission::ViewStatistics, Permission::ViewConfiguration]);

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Administrator, Self::Operator, Self::Editor, Self::Viewer, Self::Auditor];

    /// Its name in APIs and commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What it allows.
    #[must_use]
    pub const fn permissions(self) -> Permissions {
        match self {
            Self::Administrator => Permissions::ALL,
            Self::Operator => SEEN_BY_ALL.and(Permissions::of(&[
                Permission::ControlModules,
                Permission::ControlProcesses,
                Permission::ChangeUpstreams,
            ])),
            Self::Editor => SEEN_BY_ALL
                .and(Permissions::of(&[Permission::ChangeConfiguration, Permission::ChangeUpstreams])),
            Self::Viewer => SEEN_BY_ALL,
            Self::Auditor => SEEN_BY_ALL.and(Permissions::of(&[Permission::ViewAudit])),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back() {
        for permission in Permission::ALL {
            assert_eq!(Permission::parse(permission.name()), Some(permission));
        }
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        assert_eq!(Permission::parse("everything"), None);
        assert_eq!(Role::parse("Administrator"), None, "names are as written");
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        for permission in Permission::ALL {
            assert!(!Permissions::default().allow(permission));
            assert!(!Permissions::of_roles(&[]).allow(permission));
        }
    }

    #[test]
    fn the_administrator_alone_has_all() {
        for role in Role::ALL {
            let is_all = role.permissions() == Permissions::ALL;
            assert_eq!(is_all, role == Role::Administrator, "{role}");
        }
    }

    #[test]
    fn each_role_allows_what_is_written_and_nothing_more() {
        use Permission::{
            ChangeConfiguration, ChangeUpstreams, ControlModules, ControlProcesses, ViewAudit,
            ViewConfiguration, ViewStatistics, ViewStatus,
        };
        let check = |role: Role, more: &[Permission]| {
            let all = [&[ViewStatus, ViewStatistics, ViewConfiguration], more].concat();
            assert_eq!(role.permissions(), Permissions::of(&all), "{role}");
        };
        check(Role::Operator, &[ControlModules, ControlProcesses, ChangeUpstreams]);
        check(Role::Editor, &[ChangeConfiguration, ChangeUpstreams]);
        check(Role::Viewer, &[]);
        check(Role::Auditor, &[ViewAudit]);
    }

    #[test]
    fn nobody_covers_more_than_he_has() {
        let (operator, auditor) = (Role::Operator.permissions(), Role::Auditor.permissions());
        assert!(Permissions::ALL.cover(operator) && operator.cover(Permissions::NONE));
        assert!(!operator.cover(auditor) && !auditor.cover(operator) && !operator.cover(Permissions::ALL));
    }

    #[test]
    fn scopes_that_are_no_permission_allow_nothing() {
        let permissions = Permissions::of_scopes(["view_status", "patients.read", "VIEW_AUDIT", ""]);
        assert_eq!(permissions, Permissions::of(&[Permission::ViewStatus]));
    }
}
