//! Do both databases keep the same rules? Every rule of the store, asked of SQLite and of PostgreSQL.
//!
//! Never skips one: where PostgreSQL is not installed its half fails, and says what to install.

mod ground;
mod server;

mod accounts;
mod audit;
mod configuration;
mod faults;
mod keys;
mod leases;
mod modules;
mod opening;
mod private;
mod processes;
mod revocations;
mod sealing;
mod sessions;
mod statistics;

use faults::{crowd, killed};

/// Makes two tests of each rule, `sqlite::subject::rule` and `postgres::subject::rule`.
macro_rules! rules {
    ($($subject:ident: $($rule:ident),+ $(,)?;)+) => {
        mod sqlite {
            $(mod $subject {
                $(#[test]
                fn $rule() {
                    crate::ground::keeps(crate::ground::Ground::sqlite(), crate::$subject::$rule);
                })+
            })+
        }
        mod postgres {
            $(mod $subject {
                $(#[test]
                fn $rule() {
                    crate::ground::keeps(crate::ground::Ground::postgres(), crate::$subject::$rule);
                })+
            })+
        }
    };
}

rules! {
    opening:
        a_database_of_a_newer_program_is_refused,
        a_database_of_another_program_is_refused,
        reading_only_writes_nothing,
        what_comes_after_the_end_is_told_so,
        changes_seen_by_a_revision_are_all_there;
    crowd: ten_first_starts_make_one_version_and_ten_processes;
    killed: a_commit_is_whole_or_was_not;
    configuration:
        the_first_saves_and_the_others_find_it,
        of_ten_first_saves_at_once_one_wins,
        publishing_takes_the_version_that_was_seen,
        of_two_publishers_at_once_one_gets_a_conflict,
        a_version_waits_for_every_process_that_is_not_leaving,
        a_rejected_version_is_never_active,
        history_has_the_newest_first,
        nodes_have_versions_of_their_own;
    processes:
        ten_at_once_get_ten_ids_and_no_number_twice,
        a_beat_tells_what_is_wished_and_what_changed,
        beats_alone_change_no_revision,
        who_was_taken_for_gone_can_not_beat,
        only_who_has_seen_the_last_beat_takes_a_process_for_gone,
        leaving_twice_is_fine,
        what_a_process_says_is_what_others_read;
    leases:
        one_of_ten_gets_a_lease,
        a_lease_is_taken_over_by_who_saw_its_last_mark,
        whoever_lost_a_lease_can_neither_renew_nor_release_it,
        an_epoch_never_goes_back;
    modules: states_are_by_node_and_module;
    keys:
        a_key_is_read_as_it_was_added,
        a_key_is_added_once,
        keys_retire_and_go,
        without_a_sealing_key_there_are_no_keys,
        another_sealing_key_is_refused;
    accounts:
        users_are_changed_by_who_saw_them_last,
        users_and_clients_have_names_of_their_own,
        of_ten_first_users_one_is_added,
        whoever_removes_a_user_ends_his_sessions;
    sessions:
        a_session_lives_until_it_is_ended,
        a_session_is_over_by_itself,
        who_was_away_learns_which_sessions_ended,
        sweeping_removes_only_what_is_over;
    revocations: a_token_is_revoked_once;
    statistics:
        figures_stay_when_their_process_goes,
        figures_are_added_to_the_sum_once;
    audit:
        entries_are_found_by_what_they_say,
        pages_have_no_gap_and_no_entry_twice,
        the_oldest_are_trimmed;
}
