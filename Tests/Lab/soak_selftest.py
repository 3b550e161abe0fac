#!/usr/bin/python3
"""The soak's pure half, without a lab: what a step is, and which ends of it are right."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from romlab.faults import FAULTS  # noqa: E402
from romlab.shell import LabError  # noqa: E402
from romlab.soak_plan import ARBITERS, KINDS, NONE, End, Lasts, plan, rows  # noqa: E402

SEEDS = range(40)


class Plans(unittest.TestCase):
    def test_a_seed_and_a_step_are_all_that_a_plan_hangs_on(self):
        later = [plan(7, step) for step in reversed(range(1, 60))]
        self.assertEqual([plan(7, step) for step in range(1, 60)], later[::-1])

    def test_seeds_and_steps_differ(self):
        self.assertEqual(len({str(plan(seed, step)) for seed in SEEDS for step in range(1, 20)}), len(SEEDS) * 19)

    def test_every_kind_comes_once_before_one_comes_again(self):
        for seed in SEEDS:
            for first in (1, 1 + len(KINDS)):
                kinds = {plan(seed, step).kind for step in range(first, first + len(KINDS))}
                self.assertEqual(kinds, KINDS.keys())

    def test_every_kind_meets_every_arbiter(self):
        met = {(one.kind, one.arbiter) for one in (plan(seed, step) for seed in SEEDS for step in range(1, 49))}
        self.assertEqual(met, {(kind, arbiter) for kind in KINDS for arbiter in ARBITERS})

    def test_how_long_a_fault_lasts_fits_the_timeout(self):
        for one in (plan(seed, step) for seed in SEEDS for step in range(1, 49)):
            timeout = one.timeout_ms / 1000
            match KINDS[one.kind].lasts:
                case None: self.assertEqual(one.seconds, 0)
                case Lasts.BRIEFLY: self.assertTrue(0 < one.seconds <= timeout / 4, one)
                case Lasts.LONG: self.assertTrue(2 * timeout < one.seconds < 13, one)

    def test_the_line_that_repeats_a_step_names_seed_and_step(self):
        self.assertEqual(plan(123, 17).repeated_by, "SEED=123 STEP=17")


class Table(unittest.TestCase):
    def test_every_kind_has_a_fault_and_every_fault_a_kind(self):
        self.assertEqual(KINDS.keys(), FAULTS.keys())

    def test_every_kind_has_right_ends_with_each_arbiter(self):
        for name, kind in KINDS.items():
            self.assertEqual(set(kind.right), set(ARBITERS), name)
            self.assertTrue(all(kind.right.values()), name)

    def test_what_is_over_by_itself_has_an_end(self):
        for name, kind in KINDS.items():
            self.assertEqual(kind.lasts is Lasts.LONG, FAULTS[name].end is not None, name)

    def test_only_without_an_arbiter_a_guest_may_wait_for_the_admin(self):
        for name, kind in KINDS.items():
            for arbiter, ends in kind.right.items():
                self.assertTrue(arbiter == NONE or End.FROZEN not in ends, (name, arbiter))

    def test_without_an_arbiter_one_end_is_right(self):
        for name, kind in KINDS.items():
            self.assertEqual(len(kind.right[NONE]), 1, name)

    def test_every_wrong_end_is_refused(self):
        for one in (plan(seed, step) for seed in SEEDS for step in range(1, 49)):
            for end in End:
                if end in KINDS[one.kind].right[one.arbiter]:
                    one.assert_right(end)
                else:
                    self.assertRaises(LabError, one.assert_right, end)

    def test_what_ran_is_counted_and_what_never_did_is_shown_too(self):
        counted = dict(rows(["ctrl-c", "destroyed", "ctrl-c"]))
        self.assertEqual(counted.keys(), KINDS.keys())
        self.assertEqual((counted["ctrl-c"], counted["destroyed"], sum(counted.values())), (2, 1, 3))


if __name__ == "__main__":
    unittest.main()
