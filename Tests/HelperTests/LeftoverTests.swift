import Testing

@testable import RomulusHook

/// Before a run: what an earlier one that was killed has left of the guest.
@Suite struct LeftoverTests {
    private func objection(
        _ state: Domain.State, isPaused: Bool, hasLeftovers: Bool, hadReplica: Bool = true
    ) -> String? {
        PrimaryRun.objection(
            to: .init(state: state, isPaused: isPaused, isParavirtual: false, memoryKiB: 0, uuid: ""), 5, guest: "web",
            hasLeftovers: hasLeftovers, hadReplica: hadReplica)
    }

    @Test func aCopyThatStandsStillWithItsOutputHeldIsLeftAlone() throws {
        for (state, isPaused) in [(Domain.State.alive, true), (.suspended, true), (.suspended, false)] {
            let line = try #require(objection(state, isPaused: isPaused, hasLeftovers: true))
            #expect(line.contains("xl destroy 5") && line.contains("romulus resume web"))
            #expect(!line.contains("unpause"))
        }
    }

    @Test func aGuestThatWasLeftSuspendedBeforeThereWasAReplicaIsTheAdminsToWake() throws {
        let line = try #require(objection(.suspended, isPaused: false, hasLeftovers: true, hadReplica: false))
        #expect(line.contains("romulus resume web") && !line.contains("takes over"))
        let old = try #require(objection(.alive, isPaused: true, hasLeftovers: true, hadReplica: false))
        #expect(old.contains("takes over"), "only a guard pauses, and only where there is a replica")
    }

    @Test func aGuestThatRunsOrIsPausedByItsAdminIsNot() {
        #expect(objection(.alive, isPaused: false, hasLeftovers: true) == nil)
        #expect(objection(.alive, isPaused: true, hasLeftovers: false) == nil)
    }
}
