"""What must survive, and the tests that cause each fault for real: the source of docs/reliability.md."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Promise:
    """A fault, what holds then, and the tests ``file::function`` under ``tests/`` that cause it."""

    fault: str
    holds: str
    tests: tuple[str, ...]


_DECODE, _ENCODE = "faults/test_decode_faults.py", "faults/test_encode_faults.py"
_SEARCH, _TRAIN = "faults/test_search_faults.py", "faults/test_training_faults.py"
_STORE, _MLFLOW = "faults/test_store_faults.py", "faults/test_mlflow_faults.py"
_LOGIN = "faults/test_mlflow_login.py"
_DISKS, _LEASE = "cluster/test_private_disks.py", "unit/storage/test_lease.py"

PROMISES = (
    Promise(
        "a decoder crashes, hangs or eats memory",
        "that video goes into quarantine with its reason after a limited number of tries; the rest completes",
        (
            f"{_DECODE}::test_a_crash_costs_one_call",
            f"{_ENCODE}::test_a_video_whose_decoder_crashes_or_hangs_goes_to_quarantine",
            f"{_ENCODE}::test_a_picture_beyond_the_memory_limit_costs_only_its_track",
        ),
    ),
    Promise(
        "kill -9 of an encoder",
        "every track is in the store exactly once",
        (f"{_ENCODE}::test_an_encoder_that_is_killed_costs_its_chunks_a_second_try",),
    ),
    Promise(
        "kill -9 of the encoding driver",
        "the same command encodes nothing again that was finished; the store equals that of an unbroken run",
        (
            f"{_ENCODE}::test_a_killed_driver_goes_on_with_the_same_command",
            f"{_ENCODE}::test_drivers_killed_at_many_moments_lose_nothing",
        ),
    ),
    Promise(
        "a kill between temporary file and rename",
        "no partial file is ever visible",
        (f"{_STORE}::test_a_kill_between_temporary_file_and_rename_leaves_nothing_visible",),
    ),
    Promise("encoding twice", "nothing is opened, nothing added", (f"{_ENCODE}::test_encoding_twice_opens_no_video",)),
    Promise(
        "another encoder, weight or media setting",
        "another fingerprint; the old features stay",
        ("unit/data/test_streams.py::test_everything_that_changes_the_numbers_changes_it",),
    ),
    Promise(
        "features beyond half precision",
        "that track goes into quarantine with the reason; the rest completes",
        ("unit/distributed/test_feature_range.py::test_a_feature_beyond_half_precision_refuses_its_track_alone",),
    ),
    Promise(
        "kill -9 of a training worker",
        "training goes on from the last checkpoint",
        (f"{_TRAIN}::test_kill_9_of_a_worker",),
    ),
    Promise(
        "kill -9 of the training driver",
        "the same command ends in the same weights, bit for bit on one worker",
        (f"{_TRAIN}::test_kill_9_of_the_driver_then_the_same_command",),
    ),
    Promise(
        "kill -9 of the search driver, also at twelve random times",
        "the same command ends with all trials, none twice",
        (
            f"{_SEARCH}::test_kill_of_the_driver_and_the_same_command_again",
            f"{_SEARCH}::test_kill_before_the_first_trial_starts_afresh",
            f"{_SEARCH}::test_twelve_kills_of_the_driver_at_random_times",
        ),
    ),
    Promise(
        "a trial raises, or its loss is no number",
        "it is FAILED with the reason, the others finish, the exit status tells",
        (
            "integration/test_jobs.py::test_a_failed_trial_says_why_at_once_and_the_exit_status_tells",
            f"{_TRAIN}::test_a_loss_that_is_no_number_is_told_at_once_and_not_tried_again",
        ),
    ),
    Promise(
        "two drivers on one study, also in a bucket",
        "one is refused; the lease of a dead one expires",
        (
            f"{_SEARCH}::test_two_drivers_on_one_study",
            f"{_LEASE}::test_of_several_that_wait_for_a_dead_owner_one_wins",
        ),
    ),
    Promise(
        "a Ray node dies during encoding, training or search",
        "its work moves to the others, and finishes",
        (
            "faults/test_node_faults.py::test_a_node_that_dies_while_encoding_costs_nothing_but_time",
            f"{_SEARCH}::test_loss_of_a_node_in_the_middle_of_a_trial",
            f"{_DISKS}::test_a_node_is_lost_in_the_middle_of_a_search",
        ),
    ),
    Promise(
        "nodes with private disks, a bucket between them",
        "the literal command and a training on two nodes leave everything in the bucket",
        (
            f"{_DISKS}::test_the_literal_command_leaves_nothing_of_value_on_a_disk",
            f"{_DISKS}::test_training_on_two_nodes",
        ),
    ),
    Promise(
        "the head is lost with its disk",
        "the same command on a new head ends with all trials, none twice, and MLflow has them",
        (
            f"{_DISKS}::test_the_head_is_lost_with_its_disk_in_the_middle_of_a_search",
            f"{_SEARCH}::test_loss_of_the_whole_cluster_and_the_same_command_on_another",
        ),
    ),
    Promise(
        "a job is stopped and submitted again",
        "what was finished is not repeated",
        (f"{_DISKS}::test_a_job_is_stopped_and_submitted_again",),
    ),
    Promise(
        "a folder that not every node sees",
        "CFG-SHARED names the nodes, before any work",
        (f"{_DISKS}::test_a_folder_that_only_the_head_has_is_refused_before_any_work",),
    ),
    Promise(
        "MLflow gone before a trial begins, in one, before the report",
        "every metric and every artefact is there afterwards, once",
        (
            f"{_MLFLOW}::test_a_server_that_comes_back_before_the_end_has_everything",
            f"{_MLFLOW}::test_the_same_command_sends_what_a_dead_server_lacks",
            f"{_MLFLOW}::test_a_training_whose_end_a_dead_server_missed_is_sent_by_the_same_command",
        ),
    ),
    Promise(
        "MLflow's database is lost, or an older dump restored",
        "the same command logs what it lacks",
        (f"{_MLFLOW}::test_what_a_lost_or_older_database_lacks_is_logged_by_the_same_command",),
    ),
    Promise(
        "MLflow unreachable at the start, or it refuses the login",
        "an error that names the address and what to do",
        (
            "unit/tracking/test_tracking.py::test_a_server_that_is_not_there_is_named_with_the_way_to_start_it",
            f"{_LOGIN}::test_mlflows_own_login",
        ),
    ),
    Promise(
        "credentials in an address",
        "no file, tag, log or error has them",
        ("integration/test_secrets.py::test_nothing_that_a_run_leaves_holds_a_secret",),
    ),
    Promise(
        "a full disk, or one that cannot be written",
        "a clear error; what was stored stays",
        (
            f"{_ENCODE}::test_a_full_disk_stops_encoding_and_what_was_stored_stays",
            f"{_ENCODE}::test_storage_that_cannot_be_written_fails_before_any_work",
        ),
    ),
    Promise(
        "bytes flipped in a feature file",
        "an error that names the file; encoding that track again mends it",
        (f"{_ENCODE}::test_flipped_bytes_are_named_and_one_track_is_encoded_again",),
    ),
    Promise(
        "SIGTERM or Ctrl-C",
        "state is written, then the command that resumes is printed",
        ("integration/test_jobs.py::test_an_interrupted_training_says_how_to_go_on",),
    ),
)
