import Testing

@testable import RomulusHost

@Suite struct RunLockTests {
    private let folder = TestFolder()

    private func take() throws -> RunLock { try #require(try RunLock.take("x.primary", directory: folder.path)) }

    @Test func whatAKilledRunHasNotedIsFound() throws {
        do {
            let run = try take()
            #expect(run.notedDomain == nil)
            run.note(replicaOf: 12)
            #expect(try RunLock.take("x.primary", directory: folder.path) == nil)
        }
        let later = try take()
        #expect(later.notedDomain == 12)
        later.note(replicaOf: 7)
        #expect(later.notedDomain == 7)
        later.note(replicaOf: nil)
        #expect(later.notedDomain == nil)
    }
}
