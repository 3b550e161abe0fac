import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

@Suite struct DriverDomainTests {
    private final class Devices: Sendable {
        let elsewhere = Mutex<Set<Int>>([])
        let looks = Atomic(0)
    }

    @Test func aDeviceThatGoesToADriverDomainIsToldOnce() throws {
        let folder = TestFolder()
        let events = EventFile(path: folder("events"), limitBytes: 1 << 20)
        let devices = Devices()
        let watch = try DriverDomainWatch(intervalNanoseconds: 1_000_000, log: Log(guest: "test", events: events)) {
            devices.looks.wrappingAdd(1, ordering: .relaxed)
            return devices.elsewhere.withLock { $0 }
        }
        func lookTwice() {
            let first = devices.looks.load(ordering: .relaxed)
            while devices.looks.load(ordering: .relaxed) < first + 3 { usleep(1000) }
        }
        lookTwice()
        #expect(events.events() == nil)
        devices.elsewhere.withLock { $0 = [2] }
        lookTwice()
        watch.close()
        let lines = events.events()?.map(\.text) ?? []
        #expect(lines.count == 1 && lines.allSatisfy { $0.contains("vif 2") && $0.contains("NOT held") }, "\(lines)")
    }
}
