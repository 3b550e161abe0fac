import Testing

@testable import RomulusHook

/// Before a run: what an earlier one that was killed has left of the guest.
@Suite struct LeftoverTests {
    private func objection(_ state: Domain.State, isPaused: Bool, hasLeftovers: Bool) -> String? {
        PrimaryRun.objection(
            to: .init(state: state, isPaused: isPaused, isParavirtual: false, memoryKiB: 0, uuid: ""), 5, guest: "web",
            hasLeftovers: hasLeftovers)
    }

    @Test func aCopyThatStandsStillWithItsOutputHeldIsLeftAlone() throws {
        for (state, isPaused) in [(Domain.State.alive, true), (.suspended, true), (.suspended, false)] {
            let line = try #require(objection(state, isPaused: isPaused, hasLeftovers: true))
            #expect(line.contains("xl destroy 5") && line.contains("romulus resume web"))
            #expect(!line.contains("unpause"))
        }
    }

    @Test func aGuestThatRunsOrIsPausedByItsAdminIsNot() {
        #expect(objection(.alive, isPaused: false, hasLeftovers: true) == nil)
        #expect(objection(.alive, isPaused: true, hasLeftovers: false) == nil)
    }
}
