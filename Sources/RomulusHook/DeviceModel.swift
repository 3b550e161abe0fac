import CLinux
import Glibc
import RomulusHost

/// The process that libxl has started to serve the emulated devices of an HVM guest (docs/misc/xenstore-paths.pandoc:
/// image/device-model-pid). When it is gone the guest's processors stand still for good at the next access to one, and libxl
/// can neither save nor resume it.
final class DeviceModel {
    /// A pidfd, which is readable when the process has ended, whoever has its number then.
    private let process: Descriptor

    /// - Returns: nil for a guest without one, or with one that is no process here.
    init?(of domainID: UInt32, _ store: XenstoreConnection) {
        guard let text = store.read("/local/domain/\(domainID)/image/device-model-pid"), let number = pid_t(text) else {
            return nil
        }
        let raw = pidfd_open(number, 0)
        guard raw >= 0 else { return nil }
        process = Descriptor(owning: raw)
    }

    var isAlive: Bool {
        var look = pollfd(fd: process.raw, events: Int16(POLLIN), revents: 0)
        return poll(&look, 1, 0) == 0
    }
}
