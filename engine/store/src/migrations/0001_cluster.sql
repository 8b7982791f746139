-- What the processes of a cluster share. Times are Unix milliseconds by the database's own clock.

-- Numbers that only grow: by subject what has changed how often, and what numbers have been given away.
CREATE TABLE counter (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO counter (name, value) VALUES
    ('config', 0), ('modules', 0), ('keys', 0), ('sessions', 0), ('revocations', 0), ('users', 0), ('processes', 0),
    ('process', 0), ('audit', 0);

CREATE TABLE node (
    id TEXT NOT NULL PRIMARY KEY,
    active_version BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE config_version (
    node TEXT NOT NULL REFERENCES node (id),
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    document TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL,
    cause TEXT,
    created_at BIGINT NOT NULL,
    decided_at BIGINT,
    PRIMARY KEY (node, version)
);

CREATE TABLE process (
    id TEXT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL REFERENCES node (id),
    number BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    state TEXT NOT NULL,
    host TEXT NOT NULL,
    addresses TEXT NOT NULL,
    version TEXT NOT NULL,
    pid BIGINT NOT NULL,
    cores BIGINT NOT NULL,
    port_offset BIGINT NOT NULL,
    mode TEXT NOT NULL,
    config_version BIGINT,
    config_refused TEXT,
    load TEXT NOT NULL,
    wish TEXT,
    started_at BIGINT NOT NULL,
    beat_at BIGINT NOT NULL
);

CREATE TABLE config_check (
    node TEXT NOT NULL,
    version BIGINT NOT NULL,
    process TEXT NOT NULL REFERENCES process (id) ON DELETE CASCADE,
    problem TEXT,
    checked_at BIGINT NOT NULL,
    PRIMARY KEY (node, version, process),
    FOREIGN KEY (node, version) REFERENCES config_version (node, version)
);

CREATE TABLE stats (
    process TEXT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL,
    revision BIGINT NOT NULL,
    taken_at BIGINT NOT NULL,
    figures BYTEA NOT NULL
);

CREATE TABLE lease (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT,
    epoch BIGINT NOT NULL,
    beat BIGINT NOT NULL
);

CREATE TABLE module_state (
    node TEXT NOT NULL,
    module TEXT NOT NULL,
    stopped BIGINT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (node, module)
);

CREATE TABLE key (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    active_from BIGINT NOT NULL,
    retire_at BIGINT,
    sealed_by TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (kind, id)
);

-- Users and clients.
CREATE TABLE account (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    profile TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE session (
    hash BYTEA NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL,
    details TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended BIGINT
);

CREATE INDEX session_by_user ON session (user_name);

CREATE INDEX session_by_end ON session (ended);

CREATE TABLE revocation (
    token TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE INDEX revocation_by_revision ON revocation (revision);

CREATE TABLE audit (
    id BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    node TEXT,
    process TEXT,
    address TEXT,
    outcome TEXT NOT NULL,
    details TEXT NOT NULL
);
